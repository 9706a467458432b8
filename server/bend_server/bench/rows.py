"""The rows that a benchmark prints: one JSON object a line, the same names for ever."""

import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import bend_server


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` (0 to 1) of the values lie, nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered)) - 1))]


def revision() -> str:
    """Return the checkout's commit, or the word `installed` outside one."""
    try:
        return subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"],
            cwd=Path(bend_server.__file__).parent,
            capture_output=True,
            text=True,
            check=True,
            timeout=5,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "installed"


class Report:
    """Prints rows, for people or as JSON lines, and remembers whether any output was wrong."""

    def __init__(self, *, as_json: bool, database: str) -> None:
        self._as_json = as_json
        self._database = database
        self._commit = revision()
        self.wrong = 0

    def row(
        self,
        name: str,
        value: float,
        unit: str,
        *,
        job: str,
        params: Mapping[str, object] | None = None,
        samples: Sequence[float] = (),
        wrong: int = 0,
        cpu: Mapping[str, float] | None = None,
    ) -> None:
        """Print one row; times in `unit`, `cpu` in microseconds per step and process."""
        self.wrong += wrong
        body: dict[str, Any] = {
            "name": name,
            "value": round(value, 3),
            "unit": unit,
            "job": job,
            "params": dict(params or {}),
            "samples": len(samples),
            "wrong": wrong,
            "cpu_us_per_step": {k: round(v, 1) for k, v in (cpu or {}).items()},
            "p50": round(statistics.median(samples), 3) if samples else None,
            "p99": round(percentile(samples, 0.99), 3) if samples else None,
            "commit": self._commit,
            "database": self._database,
        }
        if self._as_json:
            line = json.dumps(body)
        else:
            spent = "  ".join(f"{k} {v}" for k, v in body["cpu_us_per_step"].items())
            line = f"{name:22} {body['value']:>12} {unit:8} wrong {wrong}  {spent}"
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
