"""Runs one seed and reports how it went."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import structlog

from tests.kit.virtual_time import VirtualLoop, run_virtual
from tests.simulation.world import Plant, World

NOTHING = Plant()


class Report(NamedTuple):
    """How a seed went: what it did, and its story."""

    seed: int
    executions: int
    commits: int
    hand_overs: int
    repeats: int
    virtual_s: float
    story: list[str]


class SeedFailed(AssertionError):
    """A seed broke a promise; the text has the seed, what broke, and the story's end."""

    def __init__(self, seed: int, error: BaseException, story: list[str]) -> None:
        told = "\n".join(story[-40:])
        super().__init__(
            f"seed {seed}: {type(error).__name__}: {error}\n{told}\n"
            f"again: python -m tests.simulation --seed {seed}"
        )
        self.seed = seed


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the logs of the system under test: they are part of no check."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    try:
        yield
    finally:
        structlog.reset_defaults()


def run_seed(seed: int, plant: Plant = NOTHING) -> Report:
    """Run one seed to its end. Raises SeedFailed."""
    worlds: list[World] = []

    async def main(loop: VirtualLoop) -> float:
        world = World(loop, seed, plant)
        worlds.append(world)
        await world.run()
        return loop.time()

    with quiet():
        try:
            virtual_s = run_virtual(main)
        except Exception as error:
            story = worlds[0].story if worlds else []
            raise SeedFailed(seed, error, story) from error
    world = worlds[0]
    journal = world.journal
    return Report(
        seed,
        len(world.database.executions),
        journal.commits,
        sum(journal.taken.values()),
        journal.repeats(),
        virtual_s,
        world.story,
    )
