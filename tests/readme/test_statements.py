"""What the README says of the code in tables and pictures is so, and the set-up commands are those that CI runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from asyncblob import InvalidURLError, Options, StoreType, errors
from asyncblob.blob import Blob
from asyncblob.cli.app import DEFAULT_STORE, STORE_VARIABLE
from asyncblob.cli.exits import ExitCode
from asyncblob.engine.plan import AUTO_CONCURRENCY, AUTO_PART_SIZE_BYTES, AUTO_PART_SIZE_CEILING_BYTES, MIB
from asyncblob.local.location import Location as LocalLocation
from asyncblob.nsc.location import Location as NscLocation
from asyncblob.s3.options import _PARAMETERS
from tests.readme.document import README, ROOT, blocks, table

S3_ROWS = table("`s3://bucket/prefix`")


def test_there_are_two_set_up_commands() -> None:
    """Each is one line: one installs the command and moves a file, the other one installs the tests and runs them."""
    demo, tests = (block.text for block in blocks("sh") if block.is_set_up)
    for text in (demo, tests):
        assert text.count("\n") == 1
        assert text.startswith("python3 -m venv .venv && ")
        assert "://" not in text
        shlex.split(text)
    for step in ("pip install", "'.[cli]'", "asyncblob upload", "asyncblob stat", "asyncblob download", "cmp "):
        assert step in demo
    for step in ("pip install", "-e '.[test]'", "-m pytest -n 3"):
        assert step in tests


def test_ci_takes_its_commands_from_here() -> None:
    """`.ci/run` holds neither of them, so it can't differ; what it looks for is in one line of the README each."""
    script = (ROOT / ".ci" / "run").read_text()
    assert "README.md" in script
    assert "pytest" not in re.sub("readme_command '.*'", "", script)
    for block in blocks("sh"):
        if block.is_set_up:
            assert block.text.strip() not in script
    patterns = re.findall(r"readme_command '(.*?)'", script)
    assert len(patterns) == 2
    for pattern in patterns:
        assert len(re.findall(f"^.*{pattern}.*$", README, re.MULTILINE)) == 1


def test_names_no_registry() -> None:
    """Where packages come from is the business of whoever runs this."""
    script = (ROOT / ".ci" / "run").read_text()
    for word in ("pypi.org", "pythonhosted", "--index-url", "--extra-index-url", "http://", "https://"):
        assert word not in script


def test_error_tree() -> None:
    """It is the one that the module of errors begins with."""
    [tree] = [block.text for block in blocks("text") if block.text.startswith("BlobError")]
    inside = [line.removeprefix("    ") for line in (errors.__doc__ or "").splitlines() if line.startswith("    ")]
    assert tree.splitlines() == inside


def test_layout() -> None:
    """The picture has each module and each package that there is, and no other."""
    [picture] = [block.text for block in blocks("text") if block.text.startswith("asyncblob/")]
    package = ROOT / "asyncblob"
    there = {
        f"{path.name}/" if path.is_dir() else path.name
        for path in package.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert set(re.findall(r"^  (\S+)", picture, re.MULTILINE)) == there
    for directory in re.findall(r"^(\w+)/", picture, re.MULTILINE):
        assert (ROOT / directory).is_dir()
    for directory in re.findall(r"\((\w+)/\)", picture):
        assert (ROOT / "tests" / directory).is_dir()


def test_files_that_are_named_exist() -> None:
    """A path in the text leads to a file, or to a heading of it."""
    named = re.findall(r"`((?:asyncblob|benchmarks|\.ci)/[\w./]+)`|\]\((\S+?)\)", README)
    assert len(named) >= 3
    headings = {heading.lower().replace(" ", "-") for heading in re.findall(r"^#+ (.+)$", README, re.MULTILINE)}
    for path in {one or other for one, other in named}:
        assert path.removeprefix("#") in headings if path.startswith("#") else Path(ROOT, path).exists(), path


def test_exit_codes() -> None:
    """The table has the command's own codes and those of the two signals that end it most often."""
    codes = [int(row[0]) for row in table("Command line")]
    own = [code for code in ExitCode if code is not ExitCode.BROKEN_PIPE]
    assert codes == [*own, 130, 143]
    assert f" {int(ExitCode.BROKEN_PIPE)} says" in README


def test_default_store() -> None:
    """The command's default store and its variable are called by their names."""
    assert f"`{DEFAULT_STORE}`" in README
    assert f"`{STORE_VARIABLE}`" in README


def test_store_types() -> None:
    """The backends' table has each store type."""
    [row] = [row for row in table("Backends") if row[0].startswith("`StoreType`")]
    assert {cell.strip("`") for cell in row[1:]} == set(StoreType)


def test_operations_that_are_missing() -> None:
    """What is said to raise `UnsupportedOperationError` everywhere is what no backend has made its own."""
    from asyncblob import LocalFileBlob, NscStore, S3Blob

    text = README.partition("## What isn't there yet")[2]
    public = [name for name, value in vars(Blob).items() if callable(value) and not name.startswith("_")]
    for name in public:
        having = [kind for kind in (LocalFileBlob, S3Blob, NscStore) if name in vars(kind)]
        assert (f"`{name}`" in text) == (NscStore not in having)
        assert having in ([], [S3Blob], [LocalFileBlob, S3Blob], [LocalFileBlob, S3Blob, NscStore])


def test_s3_parameters_and_defaults() -> None:
    """The table has each parameter, in the order of the code, with its default."""
    assert [row[0].strip("`") for row in S3_ROWS] == list(_PARAMETERS)
    options = Options(bucket="bucket")
    for parameter, default, *_ in S3_ROWS:
        value = getattr(options, _PARAMETERS[parameter.strip("`")])
        if default.startswith("`"):
            assert (f"{value:g}" if isinstance(value, float) else str(value).lower()) == default.strip("`")
        else:
            assert value == ""


@pytest.mark.parametrize("row", S3_ROWS, ids=lambda row: row[0].strip("`"))
def test_s3_ranges(row: list[str]) -> None:
    """The ends of each range are valid, and what is just beyond them is not; so are the words of each choice."""
    name, _, valid = row[0].strip("`"), row[1], row[2]

    def accepts(value: object) -> bool:
        try:
            Options.from_url(f"s3://bucket?{name}={value}")
        except InvalidURLError:
            return False
        return True

    if match := re.fullmatch(r"(0, or )?(\d+) to (\d+)", valid):
        least, most = int(match[2]), int(match[3])
        assert accepts(least)
        assert accepts(most)
        assert not accepts(most + 1)
        assert accepts(0) == (bool(match[1]) or least == 0)
        assert not accepts(least - 1)
    elif match := re.fullmatch(r"(\d+) or more", valid):
        assert accepts(match[1])
        assert not accepts(int(match[1]) - 1)
        assert accepts(10**6)
    elif match := re.fullmatch(r"over 0, up to (\d+)", valid):
        assert accepts(match[1])
        assert accepts(0.1)
        assert not accepts(0)
        assert not accepts(int(match[1]) + 1)
    elif valid.startswith("`"):
        words = [word.strip("` ") for word in valid.split(",")]
        assert all(map(accepts, words))
        assert not accepts("other")
    elif "http://" in valid:
        assert accepts("http://host:9000")
        assert accepts("https://host")
        assert not accepts("ftp://host")
    else:
        assert valid in ("a region's name", "a profile's name")
        assert accepts("one")
        assert not accepts("")


def test_numbers_that_the_engine_chooses() -> None:
    """What 0 stands for is what the engine takes."""
    meanings = {row[0].strip("`"): row[3] for row in S3_ROWS}
    assert f"0: {AUTO_CONCURRENCY}" in meanings["concurrency"]
    part_size = f"0: {AUTO_PART_SIZE_BYTES // MIB}, growing to {AUTO_PART_SIZE_CEILING_BYTES // MIB}"
    assert part_size in meanings["part_size_mb"]


def test_file_parameters() -> None:
    """The two switches are on by default."""
    rows = table("`file:///absolute/path`, `file://~/path`")
    assert [(row[0], row[1]) for row in rows] == [("`fsync`", "`true`"), ("`verify`", "`true`")]
    assert LocalLocation.from_url("file:///x") == LocalLocation("/x", fsync=True, verify=True)


def test_nsc_parameters() -> None:
    """Each duration that is given as an example is one."""
    [row] = table("`nsc://namespace`")
    assert row[0] == "`expires_in`"
    durations = re.findall(r"`(\w+)`", row[2])
    assert len(durations) == 4
    for duration in durations:
        assert NscLocation.from_url(f"nsc://?expires_in={duration}").expires_in == duration
