"""JSON Schema 2020-12 with bounds: local references only, and patterns that cannot run away.

Patterns are matched by the CEL library's regular expressions, whose time is linear in the text.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.validators import extend
from referencing import Registry
from referencing.exceptions import Unresolvable

from bend_server.language.cel_library import CelFault, Programs, execute
from bend_server.language.cel_syntax import BadExpression
from bend_server.language.findings import cut

ERRORS_MAX = 20
REFERENCES_MAX = 10_000
NODES_MAX = 10_000

Check = Callable[[Any, Any, Any, Any], Iterator[ValidationError] | None]


class BadSchema(Exception):
    """The schema is refused; `path` leads into it."""

    def __init__(self, message: str, path: tuple[str | int, ...]) -> None:
        super().__init__(message)
        self.message = message
        self.path = path


class TooCostly(Exception):
    """Validation follows too many references."""


class Anything:
    """Stands for a value that is not known before the task runs."""


class AnyText(str):
    """Stands for text whose content is not known before the task runs."""

    __slots__ = ()


ANYTHING = Anything()
# Keywords whose values are data, and those whose keys are names rather than keywords.
_DATA = frozenset(("const", "enum", "default", "examples"))
_NAMED = frozenset(("properties", "patternProperties", "dependentSchemas", "$defs", "definitions"))
# What cannot be judged while any part of a value is unknown.
_WHOLE = frozenset(
    ("const", "enum", "not", "if", "uniqueItems", "contains", "unevaluatedProperties",
     "unevaluatedItems", "dependentSchemas")
)  # fmt: skip


def holds_unknown(value: object) -> bool:
    """Tell whether a value, or any part of it, is unknown."""
    if isinstance(value, Anything | AnyText):
        return True
    if isinstance(value, dict):
        return any(holds_unknown(entry) for entry in value.values())
    return isinstance(value, list) and any(holds_unknown(entry) for entry in value)


class Schema:
    """A checked schema, ready to validate.

    Raises:
        BadSchema: from the constructor, when it is no JSON Schema or out of bounds.
    """

    __slots__ = ("_programs", "_spent", "_validator", "document")

    def __init__(self, document: Mapping[str, Any] | bool, programs: Programs) -> None:
        self.document = document
        self._programs = programs
        self._spent = 0
        _examine(document, document, programs)
        try:
            Draft202012Validator.check_schema(document)
        except SchemaError as error:
            raise BadSchema(cut(error.message, 200), tuple(error.absolute_path)) from error
        except RecursionError as error:
            raise BadSchema("nested too deep", ()) from error
        self._validator = self._validator_class()(document, registry=Registry())

    def _validator_class(self) -> Any:
        checks = {
            keyword: self._guarded(keyword, check)
            for keyword, check in Draft202012Validator.VALIDATORS.items()
        }
        checks["pattern"] = self._guarded("pattern", self._pattern)
        checks["patternProperties"] = self._guarded("patternProperties", self._pattern_properties)
        checks["oneOf"] = self._one_of(checks["oneOf"], checks["anyOf"])
        return extend(Draft202012Validator, checks)  # type: ignore[no-untyped-call]

    def errors(self, value: object) -> list[ValidationError]:
        """Return what is wrong with a value, at most ERRORS_MAX problems.

        Raises:
            TooCostly: the schema's references do not come to an end.
        """
        self._spent = 0
        try:
            return list(islice(self._validator.iter_errors(value), ERRORS_MAX))
        except (RecursionError, Unresolvable) as error:
            raise TooCostly("the schema's references lead nowhere") from error

    def _guarded(self, keyword: str, check: Any) -> Any:
        """Let unknown values pass, and count references."""
        is_reference = keyword in {"$ref", "$dynamicRef"}

        def guarded(
            validator: Any, argument: Any, instance: Any, schema: Any
        ) -> Iterator[ValidationError]:
            if is_reference:
                self._spent += 1
                if self._spent > REFERENCES_MAX:
                    raise TooCostly("the schema's references do not come to an end")
            if instance is ANYTHING:
                return
            if isinstance(instance, AnyText) and keyword != "type" and not is_reference:
                if keyword not in {"anyOf", "allOf", "oneOf"}:
                    return
            elif keyword in _WHOLE and holds_unknown(instance):
                return
            yield from check(validator, argument, instance, schema) or ()

        return guarded

    def _one_of(self, one: Any, any_: Any) -> Any:
        def one_of(
            validator: Any, argument: Any, instance: Any, schema: Any
        ) -> Iterator[ValidationError]:
            check = any_ if holds_unknown(instance) else one
            yield from check(validator, argument, instance, schema)

        return one_of

    def _matches(self, pattern: str, text: str) -> bool:
        program = self._programs.compiled("a.matches(b)", 0)
        try:
            return bool(execute(program, {"a": text, "b": pattern}))
        except CelFault:
            return False

    def _pattern(
        self, _validator: Any, pattern: str, instance: Any, _schema: Any
    ) -> Iterator[ValidationError]:
        if isinstance(instance, str) and not self._matches(pattern, instance):
            yield ValidationError(f"{instance!r} does not match {pattern!r}")

    def _pattern_properties(
        self, validator: Any, patterns: Any, instance: Any, _schema: Any
    ) -> Iterator[ValidationError]:
        if not isinstance(instance, dict):
            return
        for pattern, subschema in patterns.items():
            for key, entry in instance.items():
                if self._matches(pattern, key):
                    yield from validator.descend(entry, subschema, path=key, schema_path=pattern)


def _examine(root: Any, document: Any, programs: Programs) -> None:
    """Refuse remote and dangling references, and patterns that are none or too large."""
    stack: list[tuple[Any, tuple[str | int, ...]]] = [(document, ())]
    seen = 0
    while stack:
        node, path = stack.pop()
        seen += 1
        if seen > NODES_MAX:
            raise BadSchema(f"more than {NODES_MAX} values", ())
        if isinstance(node, list):
            stack.extend((entry, (*path, at)) for at, entry in enumerate(node))
            continue
        if not isinstance(node, dict):
            continue
        for key, entry in node.items():
            place = (*path, key)
            if key in {"$ref", "$dynamicRef"} and isinstance(entry, str):
                _check_reference(root, entry, place)
            elif key == "pattern" and isinstance(entry, str):
                _check_pattern(entry, place, programs)
            elif key == "patternProperties" and isinstance(entry, dict):
                for pattern in entry:
                    _check_pattern(pattern, (*place, pattern), programs)
            if key not in _DATA or (path and path[-1] in _NAMED):
                stack.append((entry, place))


def _check_reference(root: Any, reference: str, path: tuple[str | int, ...]) -> None:
    if not reference.startswith("#"):
        raise BadSchema(f"only references within the schema: '{cut(reference, 80)}'", path)
    if reference != "#" and not reference.startswith("#/"):
        return
    if resolve(root, reference) is None:
        raise BadSchema(f"the reference '{cut(reference, 80)}' leads nowhere", path)


def resolve(root: Any, reference: str) -> Any:
    """Return what a local reference stands for, None when nothing."""
    node = root
    for part in reference.split("/")[1:]:
        step = part.replace("~1", "/").replace("~0", "~").replace("%25", "%")
        if isinstance(node, dict) and step in node:
            node = node[step]
        elif isinstance(node, list) and step.isdigit() and int(step) < len(node):
            node = node[int(step)]
        else:
            return None
    return node


def _check_pattern(pattern: str, path: tuple[str | int, ...], programs: Programs) -> None:
    try:
        programs.check_pattern(pattern, 0)
    except BadExpression as error:
        raise BadSchema(error.message, path) from error
