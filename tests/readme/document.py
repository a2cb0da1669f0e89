"""The README as data: its fenced blocks and its tables."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["README", "ROOT", "Block", "blocks", "table"]

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        language: What stands behind the fence.
        text: What stands in it.
        line: The line of its fence, from 1.
        heading: The last heading before it.
    """

    language: str
    text: str
    line: int
    heading: str

    @property
    def is_set_up(self) -> bool:
        """Whether it is one of the commands for a fresh machine, which `.ci/run` runs."""
        return "pip install" in self.text


def blocks(language: str = "") -> list[Block]:
    """The fenced blocks, of a language or all."""
    found = []
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL):
        headings = re.findall(r"^#+ (.*)$", README[: match.start()], re.MULTILINE)
        line = README.count("\n", 0, match.start()) + 1
        found.append(Block(match[1], match[2], line, headings[-1]))
    return [block for block in found if language in ("", block.language)]


def table(heading: str) -> list[list[str]]:
    """The rows of the first table below a heading, without its head; each cell as it is written."""
    _, _, section = README.partition(f"# {heading}\n")
    section = re.split(r"^#+ ", section, maxsplit=1, flags=re.MULTILINE)[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]
