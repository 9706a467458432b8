"""Sharing new tasks out over the versions of a component, by weight and without chance.

Whoever is furthest behind its part gets the next tasks: after any number of tasks each version is
within one frame of its part, however the tasks come. Chance would need hundreds of tasks before
5 % are 5 %.
"""

from collections.abc import Sequence
from typing import Protocol, TypeVar


class Versioned(Protocol):
    """An instance group."""

    @property
    def version(self) -> str:
        """Its version."""
        ...


G = TypeVar("G", bound=Versioned)


class Share:
    """The parts of two or more versions that are live now.

    Args:
        weights: version → weight, over 0.
    """

    __slots__ = ("_given", "_sum", "_total", "_turn", "weights")

    def __init__(self, weights: dict[str, int]) -> None:
        self.weights = weights
        self._sum = sum(weights.values())
        self._given = dict.fromkeys(weights, 0)
        self._total = 0
        self._turn = next(iter(weights))

    def turn(self, wanted: int) -> tuple[str, int]:
        """Return the version whose turn it is, and how many of the `wanted` next tasks it gets."""
        after = self._total + wanted
        due, version = max(
            (after * weight / self._sum - self._given[version], version)
            for version, weight in self.weights.items()
        )
        self._turn = version
        return version, max(1, min(wanted, int(due)))

    def gave(self, count: int) -> None:
        """Count the tasks of the last turn; also when others stood in for the version."""
        self._given[self._turn] += count
        self._total += count

    def choose(self, groups: Sequence[tuple[G, int]], wanted: int) -> tuple[G | None, int]:
        """Return the group that gets the next tasks, and how many at most; None: they wait.

        A version that has no room loses its turn to one of at least its weight. A lighter one never
        stands in: a canary must not get more than its part because the others are busy.

        Args:
            groups: each with how many more tasks may be handed out to it.
            wanted: how many tasks wait, at least 1.
        """
        version, count = self.turn(wanted)
        own = self.weights[version]
        heavier = sorted(
            (other for other in self.weights if other != version and self.weights[other] >= own),
            key=lambda other: -self.weights[other],
        )
        for candidate in (version, *heavier):
            best: G | None = None
            room = 0
            for group, free in groups:
                if free > room and group.version == candidate:
                    best, room = group, free
            if best is not None:
                return best, min(room, count)
        return None, 0
