"""Order of the suite: fast rooms first, real parts later; a failure is then found soonest.

Tests that need the machine for themselves wait for their turn before their time starts. With two
workers (`make test`) one of them runs exactly these, the other one everything else beside them.
"""

import contextlib
import os
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer

from bend_server.bench.lock import heavy
from tests.kit import streams

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
FIGURE = "figure"

# What the tests start listens on loopback: a proxy that leads out of this machine is not for it.
LOOPBACK = "127.0.0.1,localhost,::1"
for variable in ("NO_PROXY", "no_proxy"):
    os.environ[variable] = ",".join(filter(None, (os.environ.get(variable), LOOPBACK)))

# How long an example takes says whether the machine is busy, and nothing else. The examples are the
# same in each run, so that what fails once fails again; `make soak` looks for others.
settings.register_profile(
    "suite", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")


def room_of(item: pytest.Item) -> int:
    """Return the place of a test's folder in ORDER; unknown folders come last."""
    parts = item.path.parts
    folder = parts[parts.index("tests") + 1] if "tests" in parts else ""
    return ORDER.index(folder) if folder in ORDER else len(ORDER)


def needs_machine(item: pytest.Item) -> bool:
    """Tell whether a test takes the machine's lock."""
    return any(item.get_closest_marker(mark) for mark in ("kill", "heavy"))


def folder_of(item: pytest.Item) -> Path:
    """Return where a test lies."""
    return item.path.parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sort by room, keeping the order within one; workers begin with what needs the machine."""
    items.sort(key=room_of)
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: not streams.needs_machine(item.path))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> streams.Streams:
    """Hand the tests out to workers, when there are any."""
    return streams.Streams(config, log)


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


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Note what a test measured: it stands at the end of the run's output, whoever ran it."""
    return lambda text: record_property(FIGURE, text)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures."""
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    told = [
        text
        for report in reports
        if getattr(report, "when", "") == "call"
        for name, text in report.user_properties
        if name == FIGURE
    ]
    if told:
        terminalreporter.section("figures")
        for text in told:
            terminalreporter.line(str(text))
