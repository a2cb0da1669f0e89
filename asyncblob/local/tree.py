"""From a key to an open directory and a name in it, below the store's root and nowhere else.

A path that is checked first and used later can be changed in between: somebody swaps a directory for a symlink that
leads out. So nothing here is looked up by its path. The walk opens one component after the other, each relative to
the descriptor of the one before, and never through a symlink. A symlink is resolved by its path, once, to see whether
it stays inside; but what comes of that is only another row of components, which is walked in the same way from the
root. The last component is opened by the caller, again without following.

Where there are no directory descriptors (Windows), the resolved path is compared with the root's instead.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from asyncblob.errors import BlobNotFoundError, InvalidKeyError
from asyncblob.files import operations
from asyncblob.files.destination import make_directories, sync_parents
from asyncblob.files.directory import HAS_DIRECTORY_DESCRIPTORS, Directory, naming
from asyncblob.keys import INTERNAL_PREFIX, SIDECAR_SUFFIX

__all__ = ["Place", "find", "make"]

# As many as Linux follows in one look-up (MAXSYMLINKS).
_MAX_SYMLINKS = 40

# How often a component may have changed between two looks at it. Beside a process that swaps a directory and a link
# without a pause nine of ten walks end that way; a walk takes 20 µs.
_MAX_CHANGES = 1000

# What opening a symlink or a file as a directory gives, on Linux and on macOS.
_NO_DIRECTORY = (errno.ENOTDIR, errno.ELOOP)


class Place:
    """Where a blob is, or would be: a name in an open directory.

    Attributes:
        directory: The directory.
        name: The name of the data file.
        path: The whole path, for messages.
        sidecar_name: The name of its sidecar.
    """

    __slots__ = ("directory", "name", "path", "sidecar_name")

    def __init__(self, directory: Directory, name: str) -> None:
        self.directory = directory
        self.name = name
        self.path = os.path.join(directory.path, name)
        self.sidecar_name = name + SIDECAR_SUFFIX

    def status(self) -> os.stat_result | None:
        """The status of the data file, or of what is in its place; None if there is nothing."""
        try:
            return self.directory.stat(self.name)
        except FileNotFoundError:
            return None

    def close(self) -> None:
        """Close the directory. Closing twice is harmless."""
        self.directory.close()


def find(root: str, segments: tuple[str, ...]) -> Place:
    """Find the place of a key whose directory must exist.

    Raises:
        BlobNotFoundError: It doesn't.
        InvalidKeyError: A symlink on the way leads out of the store.
        OSError: A directory can't be opened.
    """
    return _Walk(root, segments, making=False, fsync=False).run()


def make(root: str, segments: tuple[str, ...], *, fsync: bool) -> Place:
    """Find the place of a key, and make the directories that are missing.

    Args:
        root: The store's directory.
        segments: The key.
        fsync: Whether the names of new directories shall be on the disk when this returns.

    Raises:
        InvalidKeyError: Another key is in the way, or a symlink leads out of the store.
        OSError: A directory can't be made or opened.
    """
    return _Walk(root, segments, making=True, fsync=fsync).run()


class _Walk:
    def __init__(self, root: str, segments: tuple[str, ...], *, making: bool, fsync: bool) -> None:
        self._root = root
        self._segments = segments
        self._making = making
        self._fsync = fsync

    def run(self) -> Place:
        components = list(self._segments)
        with naming(os.path.join(self._root, *components)):
            symlinks = changes = 0
            while symlinks < _MAX_SYMLINKS and changes < _MAX_CHANGES:
                found = self._walk(components)
                if isinstance(found, Place):
                    return found
                if found == components:
                    changes += 1
                else:
                    symlinks += 1
                components = found
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))

    def _walk(self, components: list[str]) -> Place | list[str]:
        """Walk once, to the place or to a symlink; of that, the components to go on with.

        These are the same ones if what was there changed meanwhile.
        """
        with contextlib.ExitStack() as opened:
            directory = self._open_root()
            opened.callback(directory.close)
            for index, name in enumerate(components[:-1]):
                try:
                    child = self._child(directory, name)
                except FileNotFoundError as error:
                    raise BlobNotFoundError("there is no blob of this key") from error
                except OSError as error:
                    if error.errno not in _NO_DIRECTORY:
                        raise
                    kind = _kind(directory, name)
                    if kind == stat.S_IFLNK:
                        return self._resolve(directory, components, index)
                    if kind in (stat.S_IFDIR, None):
                        return components  # it was something else a moment ago
                    raise self._in_the_way(components[: index + 1]) from error
                opened.pop_all().close()
                directory = child
                opened.callback(directory.close)
            name = components[-1]
            if _kind(directory, name) == stat.S_IFLNK:
                return self._resolve(directory, components, len(components) - 1)
            if not HAS_DIRECTORY_DESCRIPTORS:
                self._inside(os.path.realpath(directory.path))
            opened.pop_all()
            return Place(directory, name)

    def _open_root(self) -> Directory:
        try:
            return Directory.open(self._root)
        except FileNotFoundError as error:
            if not self._making:
                raise BlobNotFoundError(f"the store's directory {self._root!r} is gone") from error
        made = make_directories(self._root)
        if self._fsync:
            sync_parents(made)
        return Directory.open(self._root)

    def _child(self, directory: Directory, name: str) -> Directory:
        try:
            return directory.child(name)
        except FileNotFoundError:
            if not self._making:
                raise
        with contextlib.suppress(FileExistsError):  # somebody else was quicker, and may not have synced it yet
            operations.make_directory(directory, name)
        if self._fsync:
            operations.sync_directory(directory)
        return directory.child(name)

    def _resolve(self, directory: Directory, components: list[str], index: int) -> list[str]:
        """The components to go on with where the one at `index`, in `directory`, is a symlink."""
        link = os.path.join(directory.path, components[index])
        try:
            target = os.path.realpath(link)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):
                return components  # a symlink was replaced while it was being read
            raise
        resolved = self._inside(target)
        if any(_is_internal(name) for name in resolved) or not (resolved or components[index + 1 :]):
            raise InvalidKeyError(f"the symlink {link!r} leads to something that the store uses itself")
        return resolved + components[index + 1 :]

    def _inside(self, path: str) -> list[str]:
        root = os.path.realpath(self._root)
        if path != root and not path.startswith(root.rstrip(os.sep) + os.sep):
            raise InvalidKeyError(
                "a symlink on the way to this key leads out of the store; remove it, or open a store where it leads to"
            )
        return [] if path == root else os.path.relpath(path, root).split(os.sep)

    def _in_the_way(self, components: list[str]) -> InvalidKeyError | BlobNotFoundError:
        other = "/".join(components)
        if not self._making:
            return BlobNotFoundError(f"there is no blob of this key, and can't be: {other!r} is one itself")
        return InvalidKeyError(
            f"the keys {other!r} and {other + '/…'!r} conflict: a name can't be a file and a directory; "
            f"delete {other!r} or choose another key"
        )


def _kind(directory: Directory, name: str) -> int | None:
    """What a name is, as one of `stat`'s S_IF constants; None: nothing."""
    try:
        return stat.S_IFMT(directory.stat(name).st_mode)
    except FileNotFoundError:
        return None


def _is_internal(name: str) -> bool:
    return name.lower().endswith(SIDECAR_SUFFIX) or name.lower().startswith(INTERNAL_PREFIX)
