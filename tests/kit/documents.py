"""Blocks of our own documents, so that tests can run what the documents show."""

import re
from pathlib import Path
from typing import NamedTuple

BLOCK = re.compile(r"^```(\w+)(?: title=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block: its language, its title (a file's name) or "", and its text."""

    language: str
    title: str
    text: str


def blocks(path: Path) -> list[Block]:
    """Return the fenced blocks of a Markdown file, in order."""
    return [Block(*found) for found in BLOCK.findall(path.read_text(encoding="utf-8"))]
