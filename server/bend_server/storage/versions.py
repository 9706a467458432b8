"""Order of semantic versions."""

import re

_SEMANTIC = re.compile(r"(\d+)\.(\d+)\.(\d+)(?:-([0-9A-Za-z.-]+))?(?:\+.*)?")


def version_key(version: str) -> tuple[object, ...]:
    """Return a sort key by semantic version (semver.org, item 11); other text sorts first.

    A pre-release is older than its release; its numeric parts compare as numbers and are older
    than its words.
    """
    match = _SEMANTIC.fullmatch(version)
    if match is None:
        return (0, version)
    numbers = tuple(int(match[index]) for index in (1, 2, 3))
    if match[4] is None:
        return (1, *numbers, 1)
    parts = tuple(
        (0, int(part), "") if part.isdigit() else (1, 0, part) for part in match[4].split(".")
    )
    return (1, *numbers, 0, parts)
