"""Files to upload, and checks that a downloaded one is exactly one of them: bytes, time and mode together."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from asyncblob.blob import TransferInfo
from asyncblob.local import LocalFileBlob

__all__ = ["Source", "fetch", "write_go_object"]


@dataclass(frozen=True)
class Source:
    """A file with everything that a store records of it."""

    path: Path
    content: bytes
    mode: int
    mtime_ns: int

    @classmethod
    def make(
        cls, path: Path, content: bytes, *, mode: int = 0o644, mtime_ns: int = 1_650_000_000_000_000_001
    ) -> Source:
        """Write the file."""
        path.write_bytes(content)
        path.chmod(mode)
        os.utime(path, ns=(mtime_ns, mtime_ns))
        return cls(path, content, mode, mtime_ns)

    @property
    def checksum(self) -> str:
        """As in `TransferInfo.checksum`."""
        return f"sha256:{hashlib.sha256(self.content).hexdigest()}"

    def is_at(self, path: Path) -> bool:
        """Whether a file has this content, time and mode."""
        status = path.stat()
        return (
            path.read_bytes() == self.content
            and status.st_mtime_ns == self.mtime_ns
            and stat.S_IMODE(status.st_mode) == self.mode
        )


async def fetch(store: LocalFileBlob, key: str, dest: Path, *candidates: Source) -> Source:
    """Download a blob that must be one of some files, whole, verified, with its own time and mode; tell which."""
    info: TransferInfo = await store.download(key, dest)
    found = [one for one in candidates if one.is_at(dest)]
    assert len(found) == 1, f"{dest.read_bytes()[:50]!r} {dest.stat()} is none of {candidates}"
    assert info.checksum == (found[0].checksum if store.verify else "")
    assert info.bytes_transferred == len(found[0].content)
    return found[0]


def write_go_object(root: Path, key: str, content: bytes, sidecar: str | None) -> Path:
    """Put an object into a store as another program does: two plain files."""
    path = root / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    if sidecar is not None:
        path.with_name(path.name + ".attrs.json").write_text(sidecar)
    return path
