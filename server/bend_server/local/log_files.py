"""Log files of the mesh: kept small, read by `bend logs`."""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

LOG_BYTES_MAX = 16 * 1024 * 1024
KEPT = 3
TAIL_BYTES = 64 * 1024


def rotate(log: Path, bytes_max: int = LOG_BYTES_MAX) -> bool:
    """Move a log's content aside when it is too long; return whether it was.

    The file itself stays, emptied, because its writer (which only appends) has it open. Lines
    written in the moment between are lost. On a full disk it stays as it is.
    """
    try:
        if log.stat().st_size <= bytes_max:
            return False
    except FileNotFoundError:
        return False
    for number in range(KEPT - 1, 0, -1):
        older = log.with_name(f"{log.name}.{number}")
        if older.exists():
            older.replace(log.with_name(f"{log.name}.{number + 1}"))
    newest = log.with_name(f"{log.name}.1")
    try:
        shutil.copy2(log, newest)
    except OSError:
        newest.unlink(missing_ok=True)
        return False
    os.truncate(log, 0)
    return True


def tail(log: Path, lines: int) -> list[str]:
    """Return the last lines of a log, at most 64 KiB; [] when there is none."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return []
    return text.splitlines()[-lines:] if lines else []


def follow(logs: dict[str, Path], pause_s: float = 0.2) -> Iterator[tuple[str, str]]:
    """Yield (process, line) as they are written, from now on, for ever."""
    offsets = {name: _size(path) for name, path in logs.items()}
    rests = dict.fromkeys(logs, "")
    while True:
        quiet = True
        for name, path in logs.items():
            size = _size(path)
            if size < offsets[name]:
                offsets[name] = 0
            if size == offsets[name]:
                continue
            quiet = False
            with path.open("rb") as file:
                file.seek(offsets[name])
                data = file.read(size - offsets[name])
            offsets[name] += len(data)
            *whole, rests[name] = (rests[name] + data.decode("utf-8", "replace")).split("\n")
            for line in whole:
                yield name, line
        if quiet:
            time.sleep(pause_s)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
