"""YAML text to plain values by the YAML 1.2 core schema: `on` and `yes` are text.

Values are built from the parser's events, because nodes of 20,000 tasks take longer than the rest
of the compilation; nodes are composed only to place findings.

Source: YAML 1.2.2, section 10.3.2 (tag resolution of the core schema).
"""

import re
from collections.abc import Sequence
from typing import Any

import yaml
from yaml.cyaml import CParser  # type: ignore[attr-defined]
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    StreamEndEvent,
)
from yaml.nodes import MappingNode, ScalarNode, SequenceNode

from bend_server.language.findings import Path, Place
from bend_server.language.json_source import DEPTH_MAX, INTEGER_DIGITS_MAX, BadText, too_deep

# What aliases may add to a document, in characters and values together.
ALIAS_WEIGHT_MAX = 1024 * 1024

_CONSTANTS: dict[str, object] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?[0-9]+")
_OTHER_BASE = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_NUMBER_STARTS = frozenset("0123456789+-.")
_END = object()


class _Parser(CParser):
    """The C parser with the hooks its composer needs; tags are judged from the events."""

    def resolve(self, _kind: object, _value: object, _implicit: object) -> str:
        return "plain"

    def descend_resolver(self, _parent: object, _index: object) -> None:
        return

    def ascend_resolver(self) -> None:
        return


def _bad(reason: str, message: str, event: Any, path: Path = ()) -> BadText:
    mark = event.start_mark
    return BadText(reason, message, path=path, line=mark.line + 1, column=mark.column + 1)


def parse_yaml(text: str) -> object:
    """Return the value of a text that holds one YAML document.

    Guarantees the same as `parse_json`; besides, no tags, and aliases add at most
    ALIAS_WEIGHT_MAX.

    Raises:
        BadText: with line and column of the first problem.
    """
    try:
        parser = _Parser(text)
        return _Builder(parser).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        said = ", ".join(part for part in (error.context, error.problem) if part)
        if mark is not None and text[mark.index : mark.index + 1] == "\t":
            said = "a tab stands where only spaces may; indent with spaces"
        raise BadText("SYNTAX", f"not YAML: {said}", line=line, column=column) from error
    except yaml.YAMLError as error:
        position = getattr(error, "position", None)
        before = text[:position] if isinstance(position, int) else ""
        reason = str(getattr(error, "reason", "") or "unreadable character")
        raise BadText(
            "SYNTAX",
            f"not YAML: {reason}",
            line=before.count("\n") + 1,
            column=len(before) - before.rfind("\n"),
        ) from error
    except (UnicodeError, RecursionError) as error:
        raise BadText("SYNTAX", "not YAML: unreadable text", line=1, column=1) from error


class _Builder:
    """Builds values from events; the depth of its recursion is bounded by DEPTH_MAX."""

    __slots__ = ("_added", "_anchors", "_get", "_path", "_weight")

    def __init__(self, parser: Any) -> None:
        self._get = parser.get_event
        self._anchors: dict[str, tuple[object, int] | None] = {}
        self._added = 0
        self._weight = 0
        self._path: list[str | int] = []

    def document(self) -> object:
        self._get()
        event = self._get()
        if isinstance(event, StreamEndEvent):
            raise _bad("SYNTAX", "the document is empty", event)
        value = self._value(self._get())
        self._get()
        after = self._get()
        if isinstance(after, DocumentStartEvent):
            raise _bad("SYNTAX", "a second YAML document starts here; one is allowed", after)
        if self._added and too_deep(value):
            raise BadText("TOO_DEEP", f"aliases nest deeper than {DEPTH_MAX}", line=1, column=1)
        return value

    def _value(self, event: Any) -> object:
        kind = event.__class__
        if kind is ScalarEvent:
            if event.tag is not None:
                self._refuse_tag(event)
            value = self._scalar(event)
            if event.anchor is not None:
                self._anchors[event.anchor] = (value, 1 + len(event.value))
            self._weight += 1 + len(event.value)
            return value
        if kind is AliasEvent:
            return self._alias(event)
        if event.tag is not None:
            self._refuse_tag(event)
        if len(self._path) >= DEPTH_MAX:
            raise _bad("TOO_DEEP", f"nested deeper than {DEPTH_MAX}", event, tuple(self._path[:8]))
        anchor = event.anchor
        before = self._weight
        if anchor is not None:
            self._anchors[anchor] = None
        built = self._map() if kind is MappingStartEvent else self._list()
        self._weight += 1
        if anchor is not None:
            self._anchors[anchor] = (built, self._weight - before)
        return built

    def _list(self) -> list[object]:
        built: list[object] = []
        path = self._path
        path.append(0)
        event = self._get()
        while event.__class__ is not SequenceEndEvent:
            path[-1] = len(built)
            built.append(self._value(event))
            event = self._get()
        path.pop()
        return built

    def _map(self) -> dict[str, object]:
        built: dict[str, object] = {}
        path = self._path
        path.append("")
        event = self._get()
        while event.__class__ is not MappingEndEvent:
            key = self._key(event)
            path[-1] = key
            if key in built:
                raise _bad("DUPLICATE_KEY", f"key '{key}' stands here twice", event, tuple(path))
            self._weight += 1 + len(key)
            built[key] = self._value(self._get())
            event = self._get()
        path.pop()
        return built

    def _key(self, event: Any) -> str:
        if event.__class__ is not ScalarEvent or event.tag is not None:
            raise _bad("BAD_KEY", "a key has to be plain text", event, tuple(self._path[:-1]))
        key: str = event.value
        if event.anchor is not None:
            self._anchors[event.anchor] = (key, 1 + len(key))
        if "\0" in key:
            raise _bad("BAD_TEXT", "text holds NUL", event, tuple(self._path[:-1]))
        if key == "<<" and event.style not in {"'", '"'}:
            merges = "YAML 1.2 has no merge key '<<'; write the keys out, or quote it"
            raise _bad("BAD_KEY", merges, event, tuple(self._path[:-1]))
        return key

    def _alias(self, event: Any) -> object:
        held = self._anchors.get(event.anchor, _END)
        if held is _END:
            raise _bad("BAD_ALIAS", f"no anchor '{event.anchor}'", event, tuple(self._path))
        if not isinstance(held, tuple):
            raise _bad("BAD_ALIAS", f"'{event.anchor}' holds itself", event, tuple(self._path))
        value, weight = held
        self._weight += weight
        self._added += weight
        if self._added > ALIAS_WEIGHT_MAX:
            raise _bad(
                "TOO_LARGE", f"aliases add more than {ALIAS_WEIGHT_MAX}", event, tuple(self._path)
            )
        return value

    def _refuse_tag(self, event: Any) -> None:
        raise _bad("TAG", f"tags are not allowed: {event.tag}", event, tuple(self._path))

    def _scalar(self, event: Any) -> object:
        text: str = event.value
        if not event.implicit[0]:
            if "\0" in text:
                raise _bad("BAD_TEXT", "text holds NUL", event, tuple(self._path))
            return text
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if text[0] not in _NUMBER_STARTS:
            return text
        try:
            return _number(text)
        except OverflowError:
            raise _bad(
                "BAD_NUMBER", "the number is too large, or none", event, tuple(self._path)
            ) from None


def _number(text: str) -> object:
    """Return the number that plain text stands for, or the text."""
    if _INTEGER.fullmatch(text):
        if len(text) > INTEGER_DIGITS_MAX:
            raise OverflowError
        return int(text)
    if _FLOAT.fullmatch(text):
        value = float(text)
        if value - value != 0:
            raise OverflowError
        return value
    if _OTHER_BASE.fullmatch(text):
        if len(text) > INTEGER_DIGITS_MAX:
            raise OverflowError
        return int(text[2:], 8 if text[1] == "o" else 16)
    if _NOT_FINITE.fullmatch(text):
        raise OverflowError
    return text


class YamlLocator:
    """Finds places in a YAML text that was parsed before."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def locate(self, places: Sequence[Place]) -> list[tuple[int, int]]:
        """Return (line, column) of each place, or of its nearest parent that exists."""
        if not places:
            return []
        root = _Parser(self._text).get_single_node()
        indexes: dict[int, dict[str, tuple[Any, Any]]] = {}
        return [_find(root, place, indexes) for place in places]


def _find(
    root: Any, place: Place, indexes: dict[int, dict[str, tuple[Any, Any]]]
) -> tuple[int, int]:
    node, key = root, root
    for step in place.path:
        if isinstance(node, MappingNode) and isinstance(step, str):
            index = indexes.get(id(node))
            if index is None:
                index = indexes[id(node)] = {
                    k.value: (k, v) for k, v in node.value if isinstance(k, ScalarNode)
                }
            found = index.get(step)
            if found is None:
                key = node
                break
            key, node = found
        elif isinstance(node, SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = key = node.value[step]
        else:
            key = node
            break
    mark = (key if place.at_key else node).start_mark
    return mark.line + 1, mark.column + 1
