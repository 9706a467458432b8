"""Keys of a task that repeat, multiply, keep, limit or undo it: read and checked."""

from bend_server.core import limits
from bend_server.language.findings import Path
from bend_server.language.keys import CACHE, RATE_LIMIT, REPEAT, TASK_CONCURRENCY
from bend_server.language.reader import Reader
from bend_server.language.sources import CacheSource, RepeatSource, SlotSource, TaskSource

CACHE_SCOPES = {"workflow": False, "namespace": True}


def read_for_each(reader: Reader, task: TaskSource, value: object, path: Path) -> None:
    """Read `for_each`: an expression, or a list whose strings may be templates."""
    if isinstance(value, list):
        if len(value) > limits.ITEMS_MAX:
            reader.findings.add(
                "TOO_LARGE", f"{len(value)} items; {limits.ITEMS_MAX} are allowed", path
            )
            return
    elif not isinstance(value, str):
        reader.wrong(path, "a list, or an expression that gives one", value)
        return
    task.controlled().for_each = value


def read_max_parallel(reader: Reader, task: TaskSource, value: object, path: Path) -> None:
    """Read `max_parallel`."""
    count = reader.integer(value, path, 1, limits.ITEMS_MAX)
    task.controlled().parallel_max = count or limits.PARALLEL_DEFAULT


def read_repeat(reader: Reader, task: TaskSource, value: object, path: Path) -> None:
    """Read `repeat`: one condition, rounds, a delay."""
    found = reader.keyed(value, REPEAT, path, "repeat")
    if found is None:
        return
    rounds = reader.integer(found.get("max", 1), (*path, "max"), 1, limits.ROUNDS_MAX)
    delay_us = reader.duration(found.get("delay", 0), (*path, "delay"), zero=True)
    words = [word for word in ("while", "until") if word in found]
    if not words:
        reader.findings.add("MISSING_KEY", "repeat needs 'while' or 'until'", path)
        return
    if len(words) == 2:
        reader.findings.add(
            "BAD_VALUE", "'while' and 'until' exclude each other", (*path, "until"), at_key=True
        )
        return
    place = (*path, words[0])
    condition = found[words[0]]
    if not isinstance(condition, str):
        reader.wrong(place, "an expression", condition)
        return
    task.controlled().repeat = RepeatSource(
        condition, words[0] == "until", rounds or 1, delay_us or 0, place
    )


def read_cache(reader: Reader, task: TaskSource, value: object, path: Path) -> None:
    """Read `cache` or `cacheable`: true, false, or a map."""
    if isinstance(value, bool):
        if value:
            task.controlled().cache = CacheSource(limits.CACHE_TTL_US, None, False, path)
        return
    if not isinstance(value, dict):
        reader.wrong(path, "true, false or a map", value)
        return
    reader.known(value, CACHE, path, path[-1] if isinstance(path[-1], str) else "cache")
    ttl_us: int | None = limits.CACHE_TTL_US
    key, wide = None, False
    if "ttl" in value:
        ttl_us = reader.duration(value["ttl"], (*path, "ttl"))
    if "key" in value:
        key = _key(reader, value["key"], (*path, "key"))
    if "scope" in value:
        wide = reader.choice(value["scope"], (*path, "scope"), CACHE_SCOPES) or False
    task.controlled().cache = CacheSource(ttl_us or limits.CACHE_TTL_US, key, wide, path)


def read_rate_limit(reader: Reader, task: TaskSource, value: object, path: Path) -> None:
    """Read `rate_limit`."""
    found = reader.keyed(value, RATE_LIMIT, path, "rate_limit")
    if found is None or not found.keys() >= {"key", "limit", "per"}:
        return
    per_us = reader.duration(found["per"], (*path, "per"))
    _slot(reader, task, found, path, per_us or 1)


def read_concurrency(reader: Reader, task: TaskSource, value: object, path: Path) -> None:
    """Read a task's `concurrency`."""
    found = reader.keyed(value, TASK_CONCURRENCY, path, "concurrency")
    if found is None or not found.keys() >= {"key", "limit"}:
        return
    _slot(reader, task, found, path, 0)


def _slot(
    reader: Reader, task: TaskSource, found: dict[str, object], path: Path, per_us: int
) -> None:
    limit = reader.integer(found["limit"], (*path, "limit"), 1, limits.CONCURRENCY_MAX)
    key = _key(reader, found["key"], (*path, "key"))
    if limit is not None and key is not None:
        task.controlled().slots.append(SlotSource(key, limit, per_us, (*path, "key")))


def _key(reader: Reader, value: object, path: Path) -> str | None:
    return reader.text(value, path, limits.EXPRESSION_BYTES_MAX)


def check_combinations(reader: Reader, found: dict[str, object], path: Path) -> None:
    """Refuse keys that make no sense together."""
    findings = reader.findings
    if "max_parallel" in found and "for_each" not in found:
        findings.add(
            "OUT_OF_PLACE",
            "max_parallel bounds the items of 'for_each', which is not here",
            (*path, "max_parallel"),
            at_key=True,
        )
    if "cache" in found and "cacheable" in found:
        findings.add(
            "DUPLICATE_KEY",
            "'cache' and 'cacheable' say the same: keep one",
            (*path, "cacheable"),
            at_key=True,
        )
