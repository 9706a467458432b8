"""After a large document the collector has nothing young to walk over, and nothing stays frozen."""

import gc
import weakref

import pytest

from bend_server.language.collector import YOUNG_MAX, paused_collector


def test_what_was_made_is_old_when_the_pause_ends() -> None:
    frozen = gc.get_freeze_count()
    with paused_collector():
        assert not gc.isenabled()
        kept = [[number] for number in range(2 * YOUNG_MAX)]
    assert gc.isenabled()
    assert gc.get_count()[0] < YOUNG_MAX
    assert gc.get_freeze_count() == frozen or frozen
    assert len(kept) == 2 * YOUNG_MAX


class Knot:
    """An object that holds itself."""

    def __init__(self) -> None:
        self.self = self


@pytest.mark.parametrize("frozen", [0, 375])
def test_garbage_of_before_is_still_collected(monkeypatch: pytest.MonkeyPatch, frozen: int) -> None:
    """Also where Python itself starts with some objects frozen, as 3.12 does."""
    monkeypatch.setattr(gc, "get_freeze_count", lambda: frozen)
    knot = Knot()
    seen = weakref.ref(knot)
    with paused_collector():
        kept = [[number] for number in range(2 * YOUNG_MAX)]
    del knot
    gc.collect()
    assert seen() is None
    assert kept


def test_a_pause_of_somebody_else_stays() -> None:
    gc.disable()
    try:
        with paused_collector():
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()
