"""What is public: exactly these names, and nothing is imported for them that their user didn't ask for."""

from __future__ import annotations

import importlib
import importlib.resources
import inspect
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import asyncblob

ROOT = Path(__file__).parents[2]

PUBLIC = [
    "AccessDeniedError",
    "Blob",
    "BlobChangedError",
    "BlobError",
    "BlobNotFoundError",
    "BlobStat",
    "BucketNotFoundError",
    "CommandError",
    "CommandNotFoundError",
    "CommandResult",
    "CredentialsError",
    "FileMetadata",
    "IntegrityError",
    "InvalidKeyError",
    "InvalidPathError",
    "InvalidURLError",
    "LocalFileBlob",
    "NscStore",
    "Opening",
    "Options",
    "PendingUpload",
    "Progress",
    "ProgressCallback",
    "S3Blob",
    "StoreClosedError",
    "StoreType",
    "TransferError",
    "TransferInProgressError",
    "TransferInfo",
    "UnsupportedOperationError",
    "UnsupportedStoreError",
    "is_valid_store",
    "new_blob_store",
    "open_store",
]


def test_the_public_names_are_these() -> None:
    """Adding or removing a public name is a decision: it changes this list."""
    assert asyncblob.__all__ == PUBLIC
    assert sorted(PUBLIC) == PUBLIC


def test_every_public_name_is_there_and_documented() -> None:
    """Each name can be had, and each class and function says what it is for."""
    for name in PUBLIC:
        value = getattr(asyncblob, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert value.__doc__, name


def test_nothing_else_looks_public() -> None:
    """Besides the public names there are only submodules, which their own ``__all__`` keeps apart, and dunders."""
    others = {name for name in vars(asyncblob) if name not in PUBLIC and not name.startswith("__")}
    assert all(inspect.ismodule(getattr(asyncblob, name)) for name in others), others
    assert all(getattr(asyncblob, name).__name__ == f"asyncblob.{name}" for name in others)


def test_a_star_import_takes_only_the_public_names() -> None:
    """``from asyncblob import *`` is harmless."""
    namespace: dict[str, object] = {}
    exec("from asyncblob import *", namespace)
    assert sorted(name for name in namespace if name != "__builtins__") == PUBLIC


def test_every_module_has_a_sorted_list_of_its_names() -> None:
    """Each ``__all__`` is sorted and names what is there."""
    for path in sorted((ROOT / "asyncblob").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if module.startswith("asyncblob.cli") or module.endswith("__main__"):
            continue  # imports what an extra brings
        names = getattr(importlib.import_module(module), "__all__", [])
        assert len(set(names)) == len(names)
        assert [name for name in names if not hasattr(sys.modules[module], name)] == [], module
        assert [name for name in names if name.startswith("_")] == [], module


def test_the_version_is_in_one_place() -> None:
    """Only ``asyncblob/__init__.py`` holds the version, and the build reads it there."""
    version = asyncblob.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", version)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert "version" not in project["project"]
    assert project["tool"]["hatch"]["version"]["path"] == "asyncblob/__init__.py"
    assigned = [
        path.name
        for path in (ROOT / "asyncblob").rglob("*.py")
        if re.search(r"^__version__\s*=", path.read_text(), re.M)
    ]
    assert assigned == ["__init__.py"]


def test_the_package_says_that_it_is_typed() -> None:
    """A type checker reads our annotations (PEP 561)."""
    assert importlib.resources.files("asyncblob").joinpath("py.typed").is_file()


def test_importing_it_is_quick_and_brings_no_sdk_and_no_command_line() -> None:
    """``import asyncblob`` loads neither botocore nor the CLI's libraries, and takes well under a second of CPU."""
    program = (
        "import json, sys, time; begun = time.process_time(); import asyncblob; "
        "print(json.dumps([time.process_time() - begun, sorted({name.partition('.')[0] for name in sys.modules}), "
        "[name for name in sys.modules if name.startswith('asyncblob.cli')]]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True, cwd=ROOT
    )
    seconds, packages, command_line = json.loads(done.stdout)
    heavy = {"aiobotocore", "botocore", "boto3", "aiohttp", "typer", "click", "rich", "pytest", "hypothesis"}
    assert heavy & set(packages) == set()
    assert command_line == []
    assert seconds < 1.0


def test_importing_it_touches_no_loop_and_starts_no_thread() -> None:
    """An import has no effect but names."""
    program = (
        "import asyncio, threading, warnings; warnings.simplefilter('error'); import asyncblob; "
        "assert threading.active_count() == 1; "
        "assert asyncio._get_running_loop() is None; assert not asyncio.all_tasks.__module__.startswith('asyncblob')"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], timeout=60, check=True, cwd=ROOT)
