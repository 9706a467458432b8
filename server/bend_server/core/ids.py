"""Ids of executions: time-ordered, carrying their partition.

An internal id is an int64: milliseconds since 2020-01-01 (41 bits) | partition (6 bits) |
counter (16 bits). The public id is `<workflow>-<internal id in decimal>` unless the caller chose
one, so an engine finds the partition of an id without asking SQL.
"""

PARTITIONS = 64
EPOCH_MS = 1_577_836_800_000
COUNTER_BITS = 16
PARTITION_BITS = 6
COUNTER_MASK = (1 << COUNTER_BITS) - 1


def make_id(now_us: int, partition: int, counter: int) -> int:
    """Make an internal id.

    Args:
        now_us: Unix microseconds, UTC, after 2020-01-01.
        partition: 0 to 63.
        counter: any int >= 0; its low 16 bits are used.
    """
    ms = now_us // 1000 - EPOCH_MS
    return (
        (ms << (PARTITION_BITS + COUNTER_BITS))
        | (partition << COUNTER_BITS)
        | counter & COUNTER_MASK
    )


def partition_of(execution: int) -> int:
    """Return the partition, 0 to 63, that an internal id carries."""
    return (execution >> COUNTER_BITS) & (PARTITIONS - 1)


def started_ms(execution: int) -> int:
    """Return the Unix milliseconds at which the id was made."""
    return (execution >> (PARTITION_BITS + COUNTER_BITS)) + EPOCH_MS


def public_id(workflow: str, execution: int) -> str:
    """Return the public id of an execution whose caller chose none."""
    return f"{workflow}-{execution}"


def parse_public_id(text: str) -> int | None:
    """Return the internal id that an engine-made public id ends with, or None.

    A chosen id may look the same by chance: the caller of this function checks the stored
    public id before it believes the answer.
    """
    digits = text.rpartition("-")[2]
    if len(digits) < 15 or not (digits.isascii() and digits.isdigit()):
        return None
    value = int(digits)
    return value if value < 1 << 63 else None
