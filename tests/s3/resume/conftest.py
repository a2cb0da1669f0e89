"""An upload and a download of four parts each, to be broken off and gone on with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.s3.conftest import MakeFile, OpenStore
from tests.s3.resume.breaking import FOUR_PARTS
from tests.s3.resume.broken_download import BrokenDownload
from tests.s3.resume.broken_upload import BrokenUpload
from tests.support.content import random_content
from tests.support.fault_server import FaultServer


@pytest.fixture
def upload(fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path) -> BrokenUpload:
    """An upload of a file of four parts to the key ``k``; nothing is sent yet."""
    return BrokenUpload(fault_server, open_at, make_file(FOUR_PARTS), tmp_path)


@pytest.fixture
async def download(fault_server: FaultServer, open_at: OpenStore, tmp_path: Path) -> BrokenDownload:
    """A download of an object of four parts with the key ``k``; nothing is fetched yet."""
    await fault_server.put("k", random_content(1, FOUR_PARTS))
    destination = tmp_path / "out" / "copy"
    destination.parent.mkdir()
    destination.write_bytes(b"old")
    return BrokenDownload(fault_server, open_at, destination)
