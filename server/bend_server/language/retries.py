"""The `retry` map of a task or of `defaults`, key by key."""

import re
from dataclasses import replace

from bend_server.core import limits
from bend_server.core.plan import RetryPolicy
from bend_server.language.findings import Path
from bend_server.language.keys import MULTIPLIER_MAX, REASON_PATTERN, REASONS_MAX, RETRY
from bend_server.language.reader import Reader

REASON = re.compile(REASON_PATTERN)


def read_retry(reader: Reader, value: object, path: Path, defaults: RetryPolicy) -> RetryPolicy:
    """Return the policy: keys of the document over `defaults`; wrong ones become findings."""
    found = reader.map(value, path)
    if not found:
        return defaults
    reader.known(found, RETRY, path, "retry")
    changes: dict[str, object] = {}
    for key, entry in found.items():
        place = (*path, key)
        match key:
            case "max_attempts":
                changes["attempts_max"] = reader.integer(entry, place, 1, limits.ATTEMPTS_MAX)
            case "initial":
                changes["initial_us"] = reader.duration(entry, place, zero=True)
            case "multiplier":
                changes["multiplier"] = reader.number(entry, place, 1.0, MULTIPLIER_MAX)
            case "max":
                changes["max_us"] = reader.duration(entry, place, zero=True)
            case "jitter":
                changes["jitter"] = reader.boolean(entry, place)
            case "budget":
                changes["budget_us"] = reader.duration(entry, place)
            case "on" | "not_on":
                words = reader.words(entry, place, REASON, REASONS_MAX, "reason")
                changes[key] = None if words is None else frozenset(words)
            case _:
                continue
    changes = {key: entry for key, entry in changes.items() if entry is not None}
    return replace(defaults, **changes)  # type: ignore[arg-type]
