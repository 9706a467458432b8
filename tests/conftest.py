"""Order of the suite: fast rooms first, real parts later; a failure is then found soonest."""

import pytest

ORDER = (
    "core",
    "tidy",
    "language",
    "scenarios",
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
