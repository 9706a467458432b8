"""What a supervisor that was killed left behind: ended before a new mesh starts."""

import contextlib
import json
from pathlib import Path

import psutil

WAIT_S = 5.0
TOLERANCE_S = 1.0


def record(pids: dict[str, int]) -> list[dict[str, object]]:
    """Return what identifies these processes later: a pid alone may be somebody else's by then."""
    found: list[dict[str, object]] = []
    for name, pid in pids.items():
        with contextlib.suppress(psutil.Error):
            found.append({"name": name, "pid": pid, "created": psutil.Process(pid).create_time()})
    return found


def end(file: Path) -> list[str]:
    """End every process that a status file names and that still is the same one.

    Returns:
        The names of what was ended.
    """
    try:
        recorded = json.loads(file.read_text()).get("recorded", [])
    except (OSError, ValueError, AttributeError):
        return []
    ended: list[str] = []
    processes: list[psutil.Process] = []
    for entry in recorded:
        with contextlib.suppress(psutil.Error, KeyError, TypeError, ValueError):
            process = psutil.Process(int(entry["pid"]))
            if abs(process.create_time() - float(entry["created"])) < TOLERANCE_S:
                process.kill()
                processes.append(process)
                ended.append(str(entry["name"]))
    psutil.wait_procs(processes, timeout=WAIT_S)
    return ended
