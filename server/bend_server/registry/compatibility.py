"""What a newer contract breaks that an older one promised, each change by its path.

An input may only become wider: all that callers send today has to be taken tomorrow. An output
may only become narrower: all that readers rely on has to stay. Three habits differ from plain
set inclusion of JSON Schema, because they are what people of workflows rely on:

- a field that is gone breaks, also where the schema would let it pass: it is no longer used, or
  no longer there;
- a field that is new in an output is compatible, also where the old schema was closed;
- what cannot be judged by rule (`not`, `if`, `patternProperties` …) is UNDECIDED and does not
  break: a harmless release must not be refused by a machine that guesses.

Source: JSON Schema 2020-12, core and validation vocabularies.
"""

from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import Any, NamedTuple

import orjson

from bend_server.registry import bounds
from bend_server.registry.schema_views import Resolver, View

CHANGES_MAX = 1000
DEPTH_MAX = 64
# Pairs of schemas that are looked at; references make small documents large.
COMPARISONS_MAX = 20_000


class Kind(IntEnum):
    """Kinds of change; numbers as in registry_service.proto."""

    INPUT_REMOVED = 1
    INPUT_RENAMED = 2
    INPUT_REQUIRED = 3
    INPUT_TYPE_NARROWED = 4
    INPUT_VALUES_NARROWED = 5
    INPUT_BOUNDS_NARROWED = 6
    INPUT_CLOSED = 7
    OUTPUT_REMOVED = 8
    OUTPUT_RENAMED = 9
    OUTPUT_OPTIONAL = 10
    OUTPUT_TYPE_WIDENED = 11
    OUTPUT_VALUES_WIDENED = 12
    OUTPUT_BOUNDS_WIDENED = 13
    ADDED = 14
    EASED = 15
    UNDECIDED = 16


COMPATIBLE = frozenset((Kind.ADDED, Kind.EASED, Kind.UNDECIDED))


class Change(NamedTuple):
    """One difference: its kind, JSON path from `$.input` or `$.output`, and text for people."""

    kind: Kind
    path: str
    message: str

    @property
    def breaking(self) -> bool:
        """Whether what fitted the older contract may fail with the newer."""
        return self.kind not in COMPATIBLE


class Side(NamedTuple):
    """What the kinds of change are called in inputs or in outputs.

    In an input the newer schema has to take what the older took; in an output the older has to
    take what the newer gives.
    """

    root: str
    removed: Kind
    renamed: Kind
    type: Kind
    values: Kind
    bounds: Kind
    output: bool


INPUT = Side(
    "$.input",
    Kind.INPUT_REMOVED,
    Kind.INPUT_RENAMED,
    Kind.INPUT_TYPE_NARROWED,
    Kind.INPUT_VALUES_NARROWED,
    Kind.INPUT_BOUNDS_NARROWED,
    output=False,
)
OUTPUT = Side(
    "$.output",
    Kind.OUTPUT_REMOVED,
    Kind.OUTPUT_RENAMED,
    Kind.OUTPUT_TYPE_WIDENED,
    Kind.OUTPUT_VALUES_WIDENED,
    Kind.OUTPUT_BOUNDS_WIDENED,
    output=True,
)


def changes(
    old_input: bytes, new_input: bytes, old_output: bytes, new_output: bytes
) -> list[Change]:
    """Return the changes from an older contract to a newer, breaking ones first, by path.

    Args:
        old_input, new_input, old_output, new_output: checked JSON Schemas; empty allows anything.

    At most 1,000. Total: any pair of schemas has an answer.
    """
    found: dict[Change, None] = {}
    for side, old, new in ((INPUT, old_input, new_input), (OUTPUT, old_output, new_output)):
        comparison = _Comparison(side, _parsed(old), _parsed(new))
        found.update(dict.fromkeys(comparison.all()))
    ordered = sorted(found, key=lambda change: (not change.breaking, change.path, change.kind))
    return ordered[:CHANGES_MAX]


def _parsed(schema: bytes) -> Any:
    return orjson.loads(schema) if schema else True


class _Comparison:
    """One pair of schemas."""

    def __init__(self, side: Side, old: Any, new: Any) -> None:
        self._side = side
        self._old = Resolver(old)
        self._new = Resolver(new)
        self._roots = (old, new)
        # Schemas that refer to themselves come back to a pair that is being compared.
        self._under: set[tuple[int, int]] = set()
        self._left = COMPARISONS_MAX

    def all(self) -> list[Change]:
        found: list[Change] = []
        for change in self._compare(*self._roots, self._side.root, 0):
            found.append(change)
            if len(found) >= CHANGES_MAX:
                break
        return found

    def _compare(self, old: Any, new: Any, path: str, depth: int) -> Iterator[Change]:
        if isinstance(old, bool) and old is new:
            return
        self._left -= 1
        if depth > DEPTH_MAX or self._left <= 0:
            if self._left >= 0:
                yield Change(Kind.UNDECIDED, path, "too deep or too large to compare")
            return
        before, after = self._old.view(old), self._new.view(new)
        pair = (before.identity, after.identity)
        if pair in self._under:
            return
        self._under.add(pair)
        try:
            yield from self._of_views(before, after, path, depth)
        finally:
            self._under.discard(pair)

    def _of_views(self, before: View, after: View, path: str, depth: int) -> Iterator[Change]:
        if before.branches or after.branches:
            yield from self._of_branches(before, after, path, depth)
            return
        yield from self._of_types(before, after, path)
        yield from self._of_values(before, after, path)
        yield from self._of_bounds(before, after, path)
        yield from self._of_properties(before, after, path, depth)
        yield from self._of_items(before, after, path, depth)
        for key in sorted(before.opaque.keys() | after.opaque.keys()):
            if before.opaque.get(key) != after.opaque.get(key):
                yield Change(Kind.UNDECIDED, path, f"`{key}` has changed")

    def _of_branches(self, before: View, after: View, path: str, depth: int) -> Iterator[Change]:
        """Alternatives: each that may come has to fit one of those that are taken."""
        given, taken = (after, before) if self._side.output else (before, after)
        for number, one in enumerate(given.alternatives()):
            if not any(self._fits(one, other, path, depth) for other in taken.alternatives()):
                what = one.title() or f"alternative {number + 1}"
                said = "may come now" if self._side.output else "is no longer taken"
                yield Change(self._side.type, path, f"{what} {said}")

    def _fits(self, given: View, taken: View, path: str, depth: int) -> bool:
        pair = (taken, given) if self._side.output else (given, taken)
        self._left -= 1
        found = self._of_views(*pair, path, depth + 1) if self._left > 0 else iter(())
        return not any(change.breaking for change in found)

    def _of_types(self, before: View, after: View, path: str) -> Iterator[Change]:
        given, taken = (after, before) if self._side.output else (before, after)
        if not bounds.types_within(given.types, taken.types):
            yield Change(self._side.type, path, _was(before.type_text(), after.type_text()))
        elif before.types != after.types:
            yield Change(Kind.EASED, path, _was(before.type_text(), after.type_text()))

    def _of_values(self, before: View, after: View, path: str) -> Iterator[Change]:
        given, taken = (after, before) if self._side.output else (before, after)
        if given.values == taken.values:
            return
        if taken.values is None:
            yield Change(Kind.EASED, path, _listed(before, after))
        elif given.values is None:
            yield Change(self._side.values, path, _listed(before, after))
        elif extra := [text for text in given.values if text not in taken.values]:
            said = "may come now" if self._side.output else "no longer taken"
            yield Change(self._side.values, path, f"{said}: {_texts(extra)}")
        else:
            yield Change(Kind.EASED, path, _listed(before, after))

    def _of_bounds(self, before: View, after: View, path: str) -> Iterator[Change]:
        given, taken = (after, before) if self._side.output else (before, after)
        for key in bounds.KEYS:
            if given.bounds.get(key) == taken.bounds.get(key):
                continue
            text = f"`{key}` {_was(_text(before.bounds, key), _text(after.bounds, key))}"
            within = bounds.within(key, given, taken)
            yield Change(Kind.EASED if within else self._side.bounds, path, text)

    def _of_properties(self, before: View, after: View, path: str, depth: int) -> Iterator[Change]:
        gone = [name for name in before.properties if name not in after.properties]
        fresh = [name for name in after.properties if name not in before.properties]
        renamed = _renames(before, after, gone, fresh)
        for name in gone:
            place = field_path(path, name)
            if name in renamed:
                yield Change(self._side.renamed, place, f"is now {renamed[name]!r}, it seems")
            else:
                yield Change(self._side.removed, place, "is gone")
        for name in fresh:
            if name not in renamed.values():
                yield Change(Kind.ADDED, field_path(path, name), "is new")
        yield from self._of_required(before, after, path, renamed)
        for name, schema in before.properties.items():
            if name in after.properties:
                place = field_path(path, name)
                yield from self._compare(schema, after.properties[name], place, depth + 1)
        yield from self._of_others(before, after, path, depth)

    def _of_required(
        self, before: View, after: View, path: str, renamed: dict[str, str]
    ) -> Iterator[Change]:
        for name in sorted(after.required - before.required - set(renamed.values())):
            if not self._side.output:
                yield Change(Kind.INPUT_REQUIRED, field_path(path, name), "has to be given now")
            elif name in before.properties:
                yield Change(Kind.EASED, field_path(path, name), "is always there now")
        for name in sorted(before.required - after.required):
            if name in before.properties and name not in after.properties:
                continue
            if self._side.output:
                yield Change(Kind.OUTPUT_OPTIONAL, field_path(path, name), "may be missing now")
            else:
                yield Change(Kind.EASED, field_path(path, name), "may be left out now")

    def _of_others(self, before: View, after: View, path: str, depth: int) -> Iterator[Change]:
        """Fields that are not listed."""
        if before.others == after.others:
            return
        if self._side.output:
            if before.others is not False and after.others is not False:
                place = f"{path}.*"
                yield from self._compare(before.others, after.others, place, depth + 1)
        elif after.others is False:
            yield Change(Kind.INPUT_CLOSED, path, "refuses fields that it does not list now")
        elif before.others is not False:
            yield from self._compare(before.others, after.others, f"{path}.*", depth + 1)

    def _of_items(self, before: View, after: View, path: str, depth: int) -> Iterator[Change]:
        for place in range(max(len(before.prefix), len(after.prefix))):
            old, new = before.item(place), after.item(place)
            yield from self._compare(old, new, f"{path}[{place}]", depth + 1)
        yield from self._compare(before.items, after.items, f"{path}[*]", depth + 1)


def _renames(before: View, after: View, gone: list[str], fresh: list[str]) -> dict[str, str]:
    """Guess which new field has taken the place of one that is gone: the same schema."""
    found: dict[str, str] = {}
    for name in gone:
        same = [
            other
            for other in fresh
            if other not in found.values()
            and before.properties[name] == after.properties[other]
            and (name in before.required) == (other in after.required)
        ]
        # Two strings may be anything: a guess needs that nothing else fits.
        if len(same) == 1:
            found[name] = same[0]
    return found


def field_path(path: str, name: str) -> str:
    """Return the JSON path of a field."""
    plain = name.replace("_", "a").isalnum() and name.isascii() and not name[0].isdigit()
    return f"{path}.{name}" if plain else f"{path}[{orjson.dumps(name).decode()}]"


def _was(before: str, after: str) -> str:
    return f"was {before}, is {after}"


def _text(values: dict[str, Any], key: str) -> str:
    return orjson.dumps(values[key]).decode()[:80] if key in values else "absent"


def _texts(values: Iterable[str]) -> str:
    shown = list(values)
    return ", ".join(text[:60] for text in shown[:10]) + (" …" if len(shown) > 10 else "")


def _listed(before: View, after: View) -> str:
    sides = ["anything" if one.values is None else _texts(one.values) for one in (before, after)]
    return _was(*sides)
