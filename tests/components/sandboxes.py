"""Sandboxed components for tests: each way that works on this machine, started once a session."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import pytest

from bend.errors import ComponentError
from bend_executors.python import Modules, PythonComponent
from bend_executors.sandbox import Limits, Rules, Size
from bend_executors.sandbox.process import Busy, Unavailable, detect
from tests.components.calls import Call, call

WAYS = ("bubblewrap", "namespaces")
# Small, so that reaching a limit costs the machine nothing.
LIMITS = Limits(
    cpu_s=1,
    memory_bytes=256 << 20,
    total_bytes=300 << 20,
    file_bytes=4 << 20,
    scratch_bytes=8 << 20,
    open_files=64,
    processes=12,
)


@cache
def missing(way: str) -> str:
    """Return why a way does not work on this machine, or ""; raises Busy, which says neither."""
    try:
        detect(Rules(isolation=way)).end()
    except Busy:
        raise
    except Unavailable as error:
        return str(error)
    return ""


def needs(way: str) -> None:
    """Skip a test where the machine has no such isolation."""
    if missing(way):
        pytest.skip(f"no isolation here by {missing(way)}")


def best() -> str:
    """Return the name of the way that works here; skip the test when none does."""
    for way in WAYS:
        if not missing(way):
            return way
    pytest.skip("; ".join(missing(way) for way in WAYS))


@contextlib.contextmanager
def python_component(
    way: str, *, folder: Path | None = None, size: Size | None = None, **rules: Any
) -> Iterator[PythonComponent]:
    """Give a component with small limits, and end its sandboxes."""
    if way != "none":
        needs(way)
    made = PythonComponent(
        Rules(**{"limits": LIMITS, "isolation": way} | rules),
        size or Size(),
        Modules(folder) if folder else None,
    )
    made.overtime_s = 0.0
    try:
        yield made
    finally:
        made.pool.close()


def run(made: PythonComponent, script: str, *, timeout_s: float = 20.0, **values: Any) -> Call:
    """Run a script; its errors are raised."""
    return asyncio.run(call(made.run, {"script": script, **values}, timeout_s=timeout_s))


def failure(make: Callable[[], Call]) -> ComponentError:
    """Return the error of a call that must fail."""
    with pytest.raises(ComponentError) as caught:
        make()
    return caught.value


def running(marker: str) -> list[int]:
    """Return the processes of this machine that have a text on their command line."""
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if any(marker in word for word in process.info["cmdline"] or [])
    ]
