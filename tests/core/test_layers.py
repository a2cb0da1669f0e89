"""Layers: imports point downward only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "asyncblob"

CORE = {"errors", "blob", "keys"}
BELOW = CORE | {"engine", "files"}
STORES = BELOW | {"local", "nsc", "s3", "stores"}

# From each unit of the package to the units that it may import from.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "blob": {"errors"},
    "keys": {"errors", "blob"},
    "engine": CORE,
    "files": CORE | {"engine"},
    "wire": BELOW,
    "local": BELOW,
    "nsc": BELOW,
    "s3": BELOW | {"wire"},
    "stores": STORES,
    "__init__": STORES,
    "cli": STORES | {"__init__"},
    "__main__": STORES | {"__init__", "cli"},
}

# An annotation only: at run time errors.py imports nothing.
FOR_TYPES_ONLY = {("errors.py", "asyncblob.nsc.command")}

# From a library to the units that may know it, beside `cli` and the command's entry.
LIBRARIES = {
    "aiobotocore": {"s3"},
    "botocore": {"s3"},
    "aiohttp": {"s3"},
    "awscrt": {"s3", "wire"},
    "typer": set[str](),
    "click": set[str](),
    "rich": set[str](),
}


@dataclass(frozen=True)
class Import:
    """One import of one file."""

    file: str
    unit: str
    module: str
    line: int
    for_types: bool


def unit_of(parts: tuple[str, ...]) -> str:
    """The unit that a path or a module below the package belongs to."""
    return parts[0].removesuffix(".py") if parts else "__init__"


def imports_of(path: Path) -> Iterator[Import]:
    """All imports of a file, those within functions included."""
    relative = path.relative_to(PACKAGE)
    tree = ast.parse(path.read_text())
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        modules: list[str] = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            modules = [node.module or ""]
            if node.module == "asyncblob":
                modules = [f"asyncblob.{alias.name}" for alias in node.names]
        for module in modules:
            line = getattr(node, "lineno", 0)
            yield Import(str(relative), unit_of(relative.parts), module, line, id(node) in for_types)


FILES = sorted(PACKAGE.rglob("*.py"))
IMPORTS = [entry for path in FILES for entry in imports_of(path)]


def test_every_file_belongs_to_a_known_layer() -> None:
    """A new module or package has to be given its place in the table of this test, and in the README's picture."""
    assert {unit_of(path.relative_to(PACKAGE).parts) for path in FILES} <= set(MAY_IMPORT)


def test_imports_point_downward() -> None:
    """No file imports from its own layer's side or from above, not even within a function."""
    wrong = []
    for entry in IMPORTS:
        if entry.module.partition(".")[0] != "asyncblob" or (entry.file, entry.module) in FOR_TYPES_ONLY:
            continue
        name = entry.module.removeprefix("asyncblob").lstrip(".").partition(".")[0]
        target = name if name in MAY_IMPORT else "__init__"
        if target != entry.unit and target not in MAY_IMPORT[entry.unit]:
            wrong.append(f"{entry.file}:{entry.line} imports {entry.module}")
    assert wrong == []


def test_the_exceptions_are_for_annotations_only() -> None:
    """What is allowed upward is under ``TYPE_CHECKING``, and still needed."""
    found = {(entry.file, entry.module): entry.for_types for entry in IMPORTS}
    assert {exception: found.get(exception) for exception in FOR_TYPES_ONLY} == dict.fromkeys(FOR_TYPES_ONLY, True)


def test_the_picture_has_no_cycle() -> None:
    """The table itself points downward: each unit only to units that don't lead back."""

    def reach(unit: str, seen: frozenset[str]) -> None:
        assert unit not in seen, f"{unit} leads back to itself"
        for below in MAY_IMPORT[unit]:
            if below != unit:
                reach(below, seen | {unit})

    for unit in MAY_IMPORT:
        if unit not in ("stores", "__init__", "cli", "__main__"):
            reach(unit, frozenset())


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_is_known_only_where_it_is_used(library: str) -> None:
    """The SDK stays in `s3`, the terminal in `cli`: nothing else depends on their types."""
    users = {entry.unit for entry in IMPORTS if entry.module.partition(".")[0] == library and not entry.for_types}
    assert users <= LIBRARIES[library] | {"cli", "__main__"}


def test_nothing_imports_the_tests() -> None:
    """The package works without its tests."""
    assert [
        entry.file for entry in IMPORTS if entry.module.partition(".")[0] in ("tests", "benchmarks", "pytest")
    ] == []


def test_the_scheduler_sees_no_backend() -> None:
    """What runs parts knows tickets and tasks, nothing of S3."""
    modules = {entry.module for entry in IMPORTS if entry.file == "engine/scheduler.py"}
    assert {module for module in modules if module.startswith("asyncblob")} == {
        "asyncblob.engine.budget",
        "asyncblob.engine.cancellation",
    }


def test_the_plan_is_pure() -> None:
    """Planning needs no loop, no clock, no file and no network."""
    modules = {entry.module for entry in IMPORTS if entry.file == "engine/plan.py"}
    assert modules <= {"__future__", "collections.abc", "dataclasses", "asyncblob.errors"}
