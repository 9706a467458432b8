"""The model folder: `<name>/<version>/model.onnx`."""

import re
from pathlib import Path

from bend import TerminalError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}")
FILE = "model.onnx"


def version_order(version: str) -> tuple[tuple[int, int, str], ...]:
    """Order versions the way people do: 1.10 after 1.9, text before numbers."""
    return tuple(
        (1, int(part), "") if part.isdigit() else (0, 0, part)
        for part in re.split(r"[.+_-]", version)
    )


def find(folder: Path, script: str) -> tuple[str, Path]:
    """Return (name@version, file) of a model.

    Args:
        folder: the model folder.
        script: `name` for the newest version, or `name@version`.

    Raises:
        TerminalError: MODEL_NOT_FOUND, with what there is; INVALID_INPUT for a name that is none.
    """
    name, _, version = script.partition("@")
    if not NAME.fullmatch(name) or (version and not VERSION.fullmatch(version)):
        raise TerminalError("INVALID_INPUT", f"script: {script!r} is no model name")
    home = folder / name
    versions = (
        sorted((p.name for p in home.iterdir() if (p / FILE).is_file()), key=version_order)
        if home.is_dir()
        else []
    )
    if not versions:
        known = sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
        raise TerminalError(
            "MODEL_NOT_FOUND", f"no model {name}; known: {', '.join(known[:20]) or 'none'}"
        )
    if version and version not in versions:
        raise TerminalError(
            "MODEL_NOT_FOUND", f"no version {version} of {name}; known: {', '.join(versions)}"
        )
    chosen = version or versions[-1]
    return f"{name}@{chosen}", home / chosen / FILE
