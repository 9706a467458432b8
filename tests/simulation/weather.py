"""What happens to messages and to SQL: losses, copies, delays, reorderings, all by the seed."""

from dataclasses import dataclass
from random import Random


@dataclass(slots=True)
class Climate:
    """Probabilities of one seed. `calm` heals everything: small delays, no faults."""

    lost: float
    doubled: float
    slow: float
    sql_refused: float
    sql_unknown: float
    sql_stalled: float
    deadliness: float
    calm: bool = False

    @classmethod
    def of(cls, chance: Random) -> "Climate":
        """Draw a climate: some seeds are harmless in one respect, and bad in another."""

        def draw(highest: float) -> float:
            return chance.choice((0.0, highest / 10, highest / 3, highest))

        return cls(
            lost=draw(0.10),
            doubled=draw(0.20),
            slow=draw(0.10),
            sql_refused=draw(0.05),
            sql_unknown=draw(0.05),
            sql_stalled=draw(0.02),
            deadliness=draw(0.02),
        )


class SeededWeather:
    """`queue.broker.Weather` by a seed."""

    def __init__(self, chance: Random, climate: Climate) -> None:
        self._chance = chance
        self._climate = climate

    def fate(self, kind: str, subject: str) -> tuple[float, ...]:
        """Return the delays of a message's copies, in seconds."""
        chance, climate = self._chance, self._climate
        if climate.calm:
            return (chance.uniform(0.0001, 0.002),)
        if chance.random() < climate.lost:
            return ()
        copies = 2 if chance.random() < climate.doubled else 1
        return tuple(self._delay() for _ in range(copies))

    def _delay(self) -> float:
        if self._chance.random() < self._climate.slow:
            return self._chance.uniform(0.01, 15.0)
        return self._chance.uniform(0.0001, 0.01)
