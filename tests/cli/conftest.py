"""A scripted engine and the command line that talks to it."""

from collections.abc import Iterator

import pytest

from tests.kit.command_line import CommandLine
from tests.kit.fakes.engine import FakeEngine


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    with FakeEngine() as one:
        yield one


@pytest.fixture
def bend(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    return CommandLine(monkeypatch, capsys, engine.url)
