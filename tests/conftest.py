"""Order of the suite: fast rooms first, real parts later; a failure is then found soonest.

Tests that need the machine for themselves wait for their turn before their time starts.
"""

import contextlib
from collections.abc import Generator
from pathlib import Path

import pytest

from bend_server.bench.lock import heavy

ORDER = (
    "core",
    "tidy",
    "language",
    "scenarios",
    "replay",
    "registry",
    "engine",
    "executor",
    "sdk",
    "cli",
    "components",
    "contracts",
    "storage",
    "queue",
    "rpc",
    "simulation",
    "mesh",
    "integration",
    "e2e",
)


def room_of(item: pytest.Item) -> int:
    """Return the place of a test's folder in ORDER; unknown folders come last."""
    parts = item.path.parts
    folder = parts[parts.index("tests") + 1] if "tests" in parts else ""
    return ORDER.index(folder) if folder in ORDER else len(ORDER)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort by room, keeping the order within one."""
    items.sort(key=room_of)


def needs_machine(item: pytest.Item) -> bool:
    """Tell whether a test takes the machine's lock."""
    return any(item.get_closest_marker(mark) for mark in ("kill", "heavy"))


def folder_of(item: pytest.Item) -> Path:
    """Return where a test lies."""
    return item.path.parent


_turn = contextlib.ExitStack()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, object, object]:
    """Take the lock outside of the test's timeout; a folder keeps it, its mesh may be shared."""
    if needs_machine(item):
        _turn.enter_context(heavy())
    try:
        return (yield)
    finally:
        if (
            nextitem is None
            or not needs_machine(nextitem)
            or folder_of(nextitem) != folder_of(item)
        ):
            _turn.close()
