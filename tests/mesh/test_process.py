"""How soon an ended process is started again."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from bend_server.local import process
from bend_server.local.process import ProcessSpec, SupervisedProcess

FIRST_S = 0.01


def spec(folder: Path, code: str, *, ready: bool) -> ProcessSpec:
    """Return a Python process that is ready at once, or never."""

    async def check() -> bool:
        return ready

    return ProcessSpec(
        name="one",
        command=[sys.executable, "-c", code],
        environment={},
        address="",
        log=folder / "one.log",
        ready=check,
        stop_s=5.0,
    )


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the pauses before starts as they are made, a hundredth of the shipped ones."""
    made: list[float] = []
    timeout = asyncio.timeout

    def noted(seconds: float | None) -> asyncio.Timeout:
        if seconds is not None and seconds < 1.0:
            made.append(seconds)
        return timeout(seconds)

    monkeypatch.setattr(process, "BACKOFF_FIRST_S", FIRST_S)
    monkeypatch.setattr(process, "STEADY_S", 0.0)
    monkeypatch.setattr(process.asyncio, "timeout", noted)
    return made


def test_what_was_killed_at_work_starts_again_at_once(tmp_path: Path, pauses: list[float]) -> None:
    """However often: a gateway that is killed every second must not stay away ever longer."""

    async def scenario() -> None:
        kills = 0

        def changed(one: SupervisedProcess) -> None:
            nonlocal kills
            if one.condition.state == "running":
                if kills == 4:
                    one.retire()
                kills += 1
                os.kill(one.condition.pid, signal.SIGKILL)

        await SupervisedProcess(
            spec(tmp_path, "import time; time.sleep(60)", ready=True), changed
        ).run()
        assert kills == 5

    asyncio.run(scenario())
    assert pauses == [FIRST_S] * 4


def test_what_fails_at_its_start_waits_ever_longer(tmp_path: Path, pauses: list[float]) -> None:
    async def scenario() -> None:
        def changed(one: SupervisedProcess) -> None:
            if one.condition.restarts == 4:
                one.retire()

        await SupervisedProcess(spec(tmp_path, "raise SystemExit(1)", ready=False), changed).run()

    asyncio.run(scenario())
    assert pauses == [FIRST_S, 2 * FIRST_S, 4 * FIRST_S, 8 * FIRST_S]
