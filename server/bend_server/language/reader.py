"""Typed reading of a document's values; what is wrong becomes a finding with its place."""

import re
from collections.abc import Collection, Mapping
from typing import TypeVar

from bend_server.core import limits
from bend_server.language.durations import parse_duration, show_duration
from bend_server.language.findings import Findings, Path, cut, nearest
from bend_server.language.keys import Key

T = TypeVar("T")

_KINDS: dict[type, str] = {
    dict: "a map",
    list: "a list",
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    type(None): "nothing",
}


def kind_of(value: object) -> str:
    """Name a value's type for people."""
    return _KINDS.get(type(value), "a value")


class Reader:
    """Reads values of one document. A method that adds a finding answers None."""

    __slots__ = ("findings",)

    def __init__(self, findings: Findings) -> None:
        self.findings = findings

    def wrong(self, path: Path, expected: str, value: object) -> None:
        """Record a value of the wrong type."""
        self.findings.add("WRONG_TYPE", f"expected {expected}, found {kind_of(value)}", path)

    def map(self, value: object, path: Path) -> dict[str, object] | None:
        """Read a map."""
        if isinstance(value, dict):
            return value
        self.wrong(path, "a map", value)
        return None

    def known(self, value: dict[str, object], keys: Collection[str], path: Path, what: str) -> None:
        """Refuse unknown keys.

        Args:
            keys: every key of the language here.
            what: names the map in the finding, for example `a workflow`.
        """
        for key in value:
            if key not in keys:
                near = nearest(key, keys)
                self.findings.add(
                    "UNKNOWN_KEY",
                    f"{what} has no key '{cut(key, 80)}'{near}",
                    (*path, key),
                    at_key=True,
                )

    def keyed(
        self, value: object, keys: Mapping[str, Key], path: Path, what: str
    ) -> dict[str, object] | None:
        """Read a map with these keys; unknown and missing ones become findings."""
        found = self.map(value, path)
        if found is None:
            return None
        self.known(found, keys, path, what)
        for key, entry in keys.items():
            if entry.required and key not in found:
                self.findings.add("MISSING_KEY", f"{what} needs '{key}'", path)
        return found

    def text(self, value: object, path: Path, chars: int) -> str | None:
        """Read text of at most so many characters."""
        if not isinstance(value, str):
            self.wrong(path, "text", value)
            return None
        if len(value) > chars:
            self.findings.add(
                "TOO_LARGE", f"the text has {len(value)} characters; {chars} are allowed", path
            )
            return None
        return value

    def matching(
        self, value: object, path: Path, pattern: re.Pattern[str], what: str
    ) -> str | None:
        """Read text that fits a pattern."""
        if not isinstance(value, str):
            self.wrong(path, "text", value)
        elif pattern.fullmatch(value) is None:
            self.findings.add(
                "BAD_NAME", f"'{cut(value, 80)}' is no {what}: {pattern.pattern}", path
            )
        else:
            return value
        return None

    def boolean(self, value: object, path: Path) -> bool | None:
        """Read true or false."""
        if isinstance(value, bool):
            return value
        self.wrong(path, "true or false", value)
        return None

    def integer(self, value: object, path: Path, low: int, high: int) -> int | None:
        """Read a whole number within bounds."""
        if not isinstance(value, int) or isinstance(value, bool):
            self.wrong(path, "a whole number", value)
        elif not low <= value <= high:
            self.findings.add(
                "OUT_OF_RANGE", f"{cut(str(value), 40)} is not within {low} to {high}", path
            )
        else:
            return value
        return None

    def number(self, value: object, path: Path, low: float, high: float) -> float | None:
        """Read a number within bounds."""
        if not isinstance(value, int | float) or isinstance(value, bool):
            self.wrong(path, "a number", value)
        elif not low <= value <= high:
            self.findings.add(
                "OUT_OF_RANGE", f"{cut(str(value), 40)} is not within {low:g} to {high:g}", path
            )
        else:
            return float(value)
        return None

    def duration(self, value: object, path: Path, *, zero: bool = False) -> int | None:
        """Read a duration; return microseconds, at most limits.ATTEMPT_TIMEOUT_US_MAX."""
        duration_us = parse_duration(value)
        if duration_us is None:
            plain = isinstance(value, str | int | float)
            shown = f"'{cut(str(value), 40)}'" if plain else kind_of(value)
            self.findings.add(
                "BAD_DURATION",
                f"{shown} is no duration; write 500ms, 5s, 1h30m, 7d or a number of seconds",
                path,
            )
        elif duration_us == 0 and not zero:
            self.findings.add("OUT_OF_RANGE", "the duration has to be more than zero", path)
        elif duration_us > limits.ATTEMPT_TIMEOUT_US_MAX:
            longest = show_duration(limits.ATTEMPT_TIMEOUT_US_MAX)
            self.findings.add("OUT_OF_RANGE", f"the duration is over {longest}", path)
        else:
            return duration_us
        return None

    def choice(self, value: object, path: Path, choices: Mapping[str, T]) -> T | None:
        """Read one of a few words."""
        if isinstance(value, str) and value in choices:
            return choices[value]
        shown = f"'{cut(value, 40)}'" if isinstance(value, str) else kind_of(value)
        near = nearest(value, choices) if isinstance(value, str) else ""
        self.findings.add("BAD_VALUE", f"{shown} is none of {', '.join(choices)}{near}", path)
        return None

    def words(
        self, value: object, path: Path, pattern: re.Pattern[str], most: int, what: str
    ) -> Collection[str] | None:
        """Read a list of words that fit a pattern."""
        if not isinstance(value, list):
            self.wrong(path, "a list", value)
            return None
        if len(value) > most:
            self.findings.add("TOO_LARGE", f"{len(value)} entries; {most} are allowed", path)
            return None
        read = [
            self.matching(entry, (*path, number), pattern, what)
            for number, entry in enumerate(value)
        ]
        return [word for word in read if word is not None]

    def labels(self, value: object, path: Path) -> dict[str, str]:
        """Read a map of short strings; what is wrong is left out and becomes a finding."""
        read: dict[str, str] = {}
        found = self.map(value, path)
        if found is None:
            return read
        if len(found) > limits.LABELS_MAX:
            self.findings.add(
                "TOO_LARGE", f"{len(found)} labels; {limits.LABELS_MAX} are allowed", path
            )
            return read
        for key, entry in found.items():
            if not key or len(key) > limits.LABEL_KEY_CHARS_MAX:
                self.findings.add(
                    "TOO_LARGE",
                    f"a label's key has 1 to {limits.LABEL_KEY_CHARS_MAX} characters",
                    (*path, key),
                    at_key=True,
                )
                continue
            text = self.text(entry, (*path, key), limits.LABEL_VALUE_CHARS_MAX)
            if text is not None:
                read[key] = text
        return read
