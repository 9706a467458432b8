"""Bounds: of numbers in the operator's file, whose errors name the key, and of outputs."""

from bend.errors import ConfigurationError
from bend_executors.configuration import Section

# Of a stream's pieces in one output: each of a few bytes costs a hundred times as much in memory.
PIECES_KEPT_MAX = 100_000


def positive(section: Section, key: str, usual: int) -> int:
    """Return a whole number of at least 1."""
    value = section.take(key, int, usual)
    if value < 1:
        raise ConfigurationError(f"{section.place}.{key}: at least 1 is wanted")
    return int(value)


def duration(section: Section, key: str, usual: float) -> float:
    """Return seconds, more than 0 and at most a day."""
    value = section.take(key, float, usual)
    if not 0 < value <= 86_400:
        raise ConfigurationError(f"{section.place}.{key}: more than 0, at most 86400 is wanted")
    return float(value)


def share(section: Section, key: str, usual: float) -> float:
    """Return a share, more than 0 and at most 1."""
    value = section.take(key, float, usual)
    if not 0 < value <= 1:
        raise ConfigurationError(f"{section.place}.{key}: more than 0, at most 1 is wanted")
    return float(value)
