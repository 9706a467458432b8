"""The document that a command reads: its bytes, what they are, and how a finding in it is shown."""

import sys
from pathlib import Path
from typing import NamedTuple

import click

from bend_server.core import limits
from bend_server.core.errors import Finding

# Exit code of a command whose document is wrong.
INVALID = 3
SUFFIXES = frozenset((".yaml", ".yml", ".json"))


class Source(NamedTuple):
    """A document as read, at most a byte longer than one may be."""

    data: bytes
    content_type: str


def read_source(name: str) -> Source:
    """Read a file; `-` is standard input. The content type goes by the file's name.

    Raises:
        click.UsageError: it cannot be read.
    """
    try:
        if name == "-":
            data = sys.stdin.buffer.read(limits.DOCUMENT_BYTES_MAX + 1)
        else:
            with Path(name).open("rb") as file:
                data = file.read(limits.DOCUMENT_BYTES_MAX + 1)
    except OSError as error:
        raise click.UsageError(f"{name}: {error.strerror or error}") from error
    is_json = name.lower().endswith(".json")
    return Source(data, "application/json" if is_json else "application/yaml")


def shown(name: str, finding: Finding) -> str:
    """Return a finding as a line that editors can jump to: FILE:LINE:COLUMN: REASON: TEXT."""
    return f"{name}:{finding.line}:{finding.column}: {finding.reason}: {finding.message}"
