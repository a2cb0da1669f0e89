"""The steps on which durability depends: every write, sync, rename, removal and lock goes through here.

Callers write ``operations.replace(…)``, never ``from … import replace``: so a test can put its own function in the
place of any step, to record the order, to fail, to wait, or to kill the process there.

Names are relative to a `Directory`. Where the system lacks something (Windows has no ``flock``, macOS no
``preadv``), a step does what comes closest or says so in its result.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import os
import sys

from asyncblob.files.directory import Directory

if sys.platform != "win32":
    import fcntl

__all__ = [
    "LockState",
    "check_space",
    "clone",
    "copy_range",
    "flush_file",
    "make_directory",
    "open_existing",
    "open_lock",
    "open_new",
    "read_at",
    "remove_directory",
    "replace",
    "reserve",
    "set_mode",
    "set_times",
    "sync_directory",
    "sync_file",
    "truncate",
    "try_lock",
    "unlink",
    "unlock",
    "write_at",
]

# Python's own files are binary and not inherited on Windows too; os.open's are neither unless it is told.
_PLAIN = getattr(os, "O_BINARY", 0) | getattr(os, "O_NOINHERIT", 0) | getattr(os, "O_CLOEXEC", 0)
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)

# linux/fs.h: _IOW(0x94, 9, int); `fcntl.FICLONE` came with Python 3.12.
_FICLONE = 0x40049409

_NOT_SUPPORTED = frozenset({errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.ENOTTY})
_CANT_CLONE = _NOT_SUPPORTED | {errno.EXDEV, errno.EPERM, errno.EBADF, errno.ETXTBSY}


class LockState(enum.Enum):
    """What came of an attempt to lock a file."""

    TAKEN = "taken"
    BUSY = "busy"
    UNSUPPORTED = "unsupported"  # by the system, or by the file system: then there is no telling who is at work


def open_new(directory: Directory, name: str, mode: int = 0o666) -> int:
    """Create a file for reading and writing that must not exist yet; its mode is `mode` less the umask."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | _NO_FOLLOW | _PLAIN
    return os.open(directory.at(name), flags, mode, dir_fd=directory.fd)


def open_existing(directory: Directory, name: str) -> int:
    """Open a file for reading. A symlink is not followed (ELOOP), and a FIFO not waited for."""
    flags = os.O_RDONLY | _NO_FOLLOW | getattr(os, "O_NONBLOCK", 0) | _PLAIN
    return os.open(directory.at(name), flags, dir_fd=directory.fd)


def open_lock(directory: Directory, name: str, *, create: bool) -> int:
    """Open a file in order to lock it; writable if possible, since NFS wants that for an exclusive lock."""
    flags = (os.O_CREAT if create else 0) | _NO_FOLLOW | getattr(os, "O_NONBLOCK", 0) | _PLAIN
    try:
        return os.open(directory.at(name), flags | os.O_RDWR, 0o666, dir_fd=directory.fd)
    except PermissionError:
        return os.open(directory.at(name), flags | os.O_RDONLY, 0o666, dir_fd=directory.fd)


def try_lock(fd: int) -> LockState:
    """Take the exclusive lock of an open file, without waiting. It ends with `unlock`, or with the last descriptor."""
    if sys.platform != "win32":
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return LockState.BUSY
        except OSError as error:
            if error.errno in _NOT_SUPPORTED or error.errno in (errno.ENOLCK, errno.EBADF):
                return LockState.UNSUPPORTED
            raise
        return LockState.TAKEN
    return LockState.UNSUPPORTED


def unlock(fd: int) -> None:
    """Give up a lock, also on behalf of a forked child that inherited the descriptor. Without one it is harmless."""
    if sys.platform != "win32":
        with contextlib.suppress(OSError):  # where there are no locks; closing the file gives up any other
            fcntl.flock(fd, fcntl.LOCK_UN)


def reserve(fd: int, size_bytes: int) -> None:
    """Make a file `size_bytes` long, of which nothing is kept, on blocks that are its own where that is cheap.

    It is on the file systems of block devices, which note an extent. One in memory writes zeros to every page (a second
    for a gigabyte, before the first byte arrives), and so does the C library where the file system can't (NFS); those
    have no block device, and there the free space is looked at instead.

    Raises:
        OSError: ENOSPC: there is not enough space.
    """
    os.ftruncate(fd, 0)
    if size_bytes <= 0:
        return
    check_space(fd, size_bytes)
    if sys.platform == "linux" and os.major(os.fstat(fd).st_dev):
        try:
            os.posix_fallocate(fd, 0, size_bytes)
        except OSError as error:
            if error.errno not in _NOT_SUPPORTED:
                raise
        else:
            return
    os.ftruncate(fd, size_bytes)


def check_space(fd: int, size_bytes: int) -> None:
    """Find a full disk now rather than later, without the writes that `reserve` costs on a file system in memory.

    Raises:
        OSError: ENOSPC: the file system of this file has less free space.
    """
    if sys.platform != "win32":
        status = os.fstatvfs(fd)
        # Some network and user-space file systems don't say: they have no blocks at all.
        if status.f_blocks and status.f_bfree * status.f_frsize < size_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def clone(source_fd: int, target_fd: int) -> bool:
    """Let an empty file share all blocks of another one (Btrfs, XFS, bcachefs); tell whether that was possible."""
    if sys.platform == "linux":
        try:
            fcntl.ioctl(target_fd, _FICLONE, source_fd)
        except OSError as error:
            if error.errno not in _CANT_CLONE:
                raise
        else:
            return True
    return False


def copy_range(source_fd: int, target_fd: int, offset: int, size_bytes: int) -> int | None:
    """Copy bytes between two files inside the kernel, at the same offset in both.

    Returns:
        How many were copied (0 at the end of the source), or None where the kernel can't.
    """
    if sys.platform == "linux":
        try:
            return os.copy_file_range(source_fd, target_fd, size_bytes, offset, offset)
        except OSError as error:
            if error.errno not in _CANT_CLONE:
                raise
    return None


def read_at(fd: int, buffer: memoryview, offset: int) -> int:
    """Read at an offset into a buffer; returns the count, 0 at the end. On Windows only one thread may do so."""
    if sys.platform == "linux":
        return os.preadv(fd, [buffer], offset)
    if sys.platform == "win32":
        os.lseek(fd, offset, os.SEEK_SET)
        data = os.read(fd, len(buffer))
    else:
        data = os.pread(fd, len(buffer), offset)
    buffer[: len(data)] = data
    return len(data)


def write_at(fd: int, data: memoryview, offset: int) -> None:
    """Write all of `data` at an offset. On Windows only one thread may do so."""
    while data:
        if sys.platform == "win32":
            os.lseek(fd, offset, os.SEEK_SET)
            count = os.write(fd, data)
        else:
            count = os.pwrite(fd, data, offset)
        data = data[count:]
        offset += count


def truncate(fd: int, size_bytes: int) -> None:
    """Set a file's length."""
    os.ftruncate(fd, size_bytes)


def set_mode(directory: Directory, name: str, fd: int, mode: int) -> None:
    """Set the permission bits of an open file, which is called `name`."""
    if sys.platform == "win32":
        os.chmod(directory.at(name), mode)
    else:
        os.fchmod(fd, mode)


def set_times(directory: Directory, name: str, fd: int, mtime_ns: int) -> None:
    """Set the access and modification time of an open file, which is called `name`; nanoseconds since 1970."""
    if sys.platform == "win32":
        os.utime(directory.at(name), ns=(mtime_ns, mtime_ns))
    else:
        os.utime(fd, ns=(mtime_ns, mtime_ns))


def flush_file(fd: int) -> None:
    """Let a network file system report now what went wrong with the writes so far.

    NFS and its like write behind and report at ``close``, of any duplicate too; local file systems do nothing here.
    """
    os.close(os.dup(fd))


def sync_file(fd: int) -> None:
    """Bring a file to the disk. An error is final: Linux marks the pages clean and reports it once."""
    if sys.platform == "darwin":
        # fsync there reaches the drive's cache only.
        try:
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
        except OSError as error:
            if error.errno not in _NOT_SUPPORTED:
                raise
        else:
            return
    os.fsync(fd)


def sync_directory(directory: Directory) -> None:
    """Bring a directory's entries to the disk, where the file system has such a thing."""
    if directory.fd is None:
        return
    try:
        os.fsync(directory.fd)
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise


def replace(source: Directory, source_name: str, target: Directory, target_name: str) -> None:
    """Rename a file, atomically in place of what has the new name."""
    os.replace(source.at(source_name), target.at(target_name), src_dir_fd=source.fd, dst_dir_fd=target.fd)


def unlink(directory: Directory, name: str) -> None:
    """Remove a file."""
    os.unlink(directory.at(name), dir_fd=directory.fd)


def make_directory(directory: Directory, name: str, mode: int = 0o777) -> None:
    """Make a directory; its mode is `mode` less the umask."""
    os.mkdir(directory.at(name), mode, dir_fd=directory.fd)


def remove_directory(directory: Directory, name: str) -> None:
    """Remove an empty directory."""
    os.rmdir(directory.at(name), dir_fd=directory.fd)
