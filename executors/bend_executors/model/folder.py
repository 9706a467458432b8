"""The model folder: `<name>/<version>/model.onnx`, beside it `model.json` or `model.yaml`."""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from bend import TerminalError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}")
SHA256 = re.compile(r"[0-9a-f]{64}")
FILE = "model.onnx"
CONFIG_FILES = ("model.json", "model.yaml")
LISTED_MAX = 20

Signature = tuple[tuple[int, int], ...]
Order = tuple[tuple[tuple[int, int, str], ...], tuple[tuple[int, int, str], ...]]


class Found(NamedTuple):
    """A version of a model, there or still to be fetched."""

    name: str
    version: str
    folder: Path

    @property
    def label(self) -> str:
        """`name@version`, for people."""
        return f"{self.name}@{self.version}"

    @property
    def file(self) -> Path:
        """Where its ONNX file is."""
        return self.folder / FILE

    def signature(self) -> Signature:
        """Return what changes when somebody writes the files again; empty when there is none."""
        seen: list[tuple[int, int]] = []
        for name in (FILE, *CONFIG_FILES):
            try:
                facts = os.stat(self.folder / name)
            except OSError:
                if name == FILE:
                    return ()
                continue
            seen.append((facts.st_mtime_ns, facts.st_size))
        return tuple(seen)


def version_order(version: str) -> Order:
    """Order versions by semantic versioning: 1.10 after 1.9, 1.9-rc1 before 1.9.

    Trailing zeros do not count (1.0 is 1.0.0), build metadata (after +) does, as the last word.
    """
    released, _, build = version.partition("+")
    released, _, early = released.partition("-")
    numbers = _parts(released)
    while len(numbers) > 1 and numbers[-1] == (1, 0, ""):
        numbers.pop()
    # No pre-release at all is newer than any: 2 is above the marks of text (0) and numbers (1).
    marks = _parts(early) if early else [(2, 0, "")]
    return tuple(numbers), (*marks, *_parts(build))


def _parts(text: str) -> list[tuple[int, int, str]]:
    return [
        (1, int(part), "") if part.isdigit() else (0, 0, part)
        for part in re.split(r"[._-]", text)
        if part
    ]


def find(folder: Path, script: str, configured: Iterable[tuple[str, str]] = ()) -> Found:
    """Return the version of a model that a task names.

    Args:
        folder: the model folder.
        script: `name` for the newest version, `name@version` for that one; when there is no such
            version, `name@2` is the newest 2.x.
        configured: (name, version) of what the registry has, whether fetched yet or not.

    Raises:
        TerminalError: MODEL_NOT_FOUND, with what there is; INVALID_INPUT for a name that is none.
    """
    name, at, version = script.partition("@")
    if not NAME.fullmatch(name) or (at and not VERSION.fullmatch(version)):
        raise TerminalError("INVALID_INPUT", f"script: {script!r} is no model name")
    home = folder / name
    there = {p.name for p in home.iterdir() if (p / FILE).is_file()} if home.is_dir() else set()
    there |= {entry[1] for entry in configured if entry[0] == name}
    # 1.0 and 1.0.0 are equal, and then the text decides, the same way every time.
    versions = sorted(
        (v for v in there if VERSION.fullmatch(v)), key=lambda v: (version_order(v), v)
    )
    if not versions:
        known = {p.name for p in folder.iterdir() if p.is_dir()} if folder.is_dir() else set()
        known |= {entry[0] for entry in configured}
        raise TerminalError("MODEL_NOT_FOUND", f"no model {name}; known: {listed(sorted(known))}")
    if not version:
        chosen = versions[-1]
    elif version in versions:
        chosen = version
    else:
        below = [entry for entry in versions if entry.startswith(f"{version}.")]
        if not below:
            raise TerminalError(
                "MODEL_NOT_FOUND", f"no version {version} of {name}; known: {listed(versions)}"
            )
        chosen = below[-1]
    return Found(name, chosen, home / chosen)


def listed(names: list[str]) -> str:
    """Return names for an error, the last LISTED_MAX of them."""
    more = "…, " if len(names) > LISTED_MAX else ""
    return more + ", ".join(names[-LISTED_MAX:]) if names else "none"


def digest_mismatch(found: Found, wanted: str, got: str) -> TerminalError:
    """Return the error for a file that is not the one that was asked for."""
    return TerminalError(
        "MODEL_DIGEST_MISMATCH",
        f"{found.label}: sha256 {wanted} is wanted, the file has {got}",
        details={"wanted": wanted, "got": got},
    )
