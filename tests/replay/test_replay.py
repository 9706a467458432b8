"""A release that reads old rows differently would change the past of running executions."""

from pathlib import Path

import pytest

from tests.replay.record import HERE, replay

HISTORIES = sorted(HERE.glob("*.json"))


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
def test_a_history_means_what_it_meant(path: Path) -> None:
    then, now = replay(path)
    assert now == then


def test_there_are_histories() -> None:
    assert len(HISTORIES) >= 6
