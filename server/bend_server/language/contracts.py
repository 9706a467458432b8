"""A document against the contracts of its components, as far as it is literal."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from bend_server.core.model import TaskKind
from bend_server.language.cel_library import Programs
from bend_server.language.cel_syntax import BadExpression
from bend_server.language.engine_types import OUTPUTS, WORDS
from bend_server.language.findings import Findings, cut, nearest
from bend_server.language.json_source import BadText, decode_text, parse_json
from bend_server.language.keys import TASK
from bend_server.language.names import OWN_FIELDS, Reference, Steps, show_steps
from bend_server.language.payloads import dump
from bend_server.language.schemas import (
    ANYTHING,
    AnyText,
    BadSchema,
    Schema,
    TooCostly,
    resolve,
)
from bend_server.language.sources import TaskSource
from bend_server.language.templates import OPEN, Embedded, split_template

REFERENCE_DEPTH_MAX = 16


class ContractView(NamedTuple):
    """What a component promises: JSON Schemas of its input and output; empty means anything."""

    input_schema: bytes = b""
    output_schema: bytes = b""


def check_contracts(
    tasks: Sequence[TaskSource], contracts: Mapping[str, ContractView], findings: Findings
) -> None:
    """Add a finding for each literal input and each output field that a contract rules out."""
    checker = _Checker(tasks, contracts, findings)
    for task in tasks:
        if findings.full:
            return
        if task.kind == TaskKind.COMPONENT:
            checker.check_input(task)
        checker.check_references(task)


class _Checker:
    """Holds the schemas that were read; tasks with equal literal inputs are judged once."""

    __slots__ = ("_contracts", "_findings", "_fine", "_programs", "_schemas", "_tasks")

    def __init__(
        self,
        tasks: Sequence[TaskSource],
        contracts: Mapping[str, ContractView],
        findings: Findings,
    ) -> None:
        self._tasks = tasks
        self._contracts = contracts
        self._findings = findings
        self._programs = Programs()
        self._schemas: dict[bytes, Schema | None] = {}
        self._fine: set[tuple[bytes, bytes]] = set()

    def _contract(self, task: TaskSource) -> ContractView | None:
        exact = self._contracts.get(f"{task.component}@{task.major}")
        return exact or self._contracts.get(task.component)

    def _schema(self, data: bytes) -> Schema | None:
        """Return a contract's schema; one that cannot be read promises nothing."""
        if not data:
            return None
        if data not in self._schemas:
            schema = None
            try:
                document = parse_json(decode_text(data))
                if isinstance(document, dict | bool):
                    schema = Schema(document, self._programs)
            except (BadText, BadSchema):
                schema = None
            self._schemas[data] = schema
        return self._schemas[data]

    def check_input(self, task: TaskSource) -> None:
        contract = self._contract(task)
        schema = self._schema(contract.input_schema) if contract else None
        if contract is None or schema is None:
            return
        value = literal_parts(task.inputs)
        seen = (contract.input_schema, dump(_marked(value)))
        if seen in self._fine:
            return
        try:
            errors = schema.errors(value)
        except TooCostly:
            return
        self._misspelt(task, schema)
        if not errors:
            self._fine.add(seen)
        for error in errors:
            place = task.place_of(tuple(error.absolute_path))
            said = cut(error.message, 300)
            if error.validator == "additionalProperties":
                said += self._near(error.instance, error.schema)
            self._findings.add(
                "BAD_INPUT", f"the input of component {task.component}: {said}", place
            )

    def _near(self, instance: Any, schema: Any) -> str:
        known = list(schema.get("properties", {}))
        for key in instance:
            if key not in known:
                return nearest(key, [*known, *TASK])
        return ""

    def _misspelt(self, task: TaskSource, schema: Schema) -> None:
        """An open contract takes any key: a near miss of an engine's key would be lost in it."""
        document = schema.document
        known = document.get("properties", {}) if isinstance(document, Mapping) else {}
        for key in task.inputs:
            near = nearest(key, TASK) if key not in known and key not in task.places else ""
            if near and _close(key, near):
                self._findings.add(
                    "UNKNOWN_KEY",
                    f"neither a task nor component {task.component} has a key '{key}'{near}",
                    (*task.path, key),
                    at_key=True,
                )

    def check_references(self, task: TaskSource) -> None:
        for reference, path in task.references():
            steps = _read_steps(reference)
            if not steps:
                continue
            other = task if reference.kind == "round" else self._tasks[reference.task]
            contract = self._contract(other) if other.kind == TaskKind.COMPONENT else None
            schema = self._schema(contract.output_schema) if contract else None
            if schema is None:
                continue
            said = ruled_out(
                _listed(schema.document, other, task, reference), steps, reference.name
            )
            if said:
                self._findings.add(
                    "UNKNOWN_FIELD", f"the output of component {other.component}: {said}", path
                )


def check_shapes(tasks: Sequence[TaskSource], findings: Findings) -> None:
    """Add a finding for each field that no contract is needed to rule out.

    The outputs of the engine's own types are known, and that of a for_each is a list.
    """
    if not any(task.fans_out or task.kind != TaskKind.COMPONENT for task in tasks):
        return
    for task in tasks:
        control = task.control
        undo = None if control is None else control.compensation
        for reader in (task,) if undo is None else (task, undo):
            for reference, path in reader.references():
                steps = _read_steps(reference)
                if not steps:
                    continue
                other = task if reference.kind == "round" else tasks[reference.task]
                schema = _listed(OUTPUTS.get(other.kind, True), other, reader, reference)
                said = ruled_out(schema, steps, reference.name)
                if said:
                    what = WORDS.get(other.kind, "for_each")
                    findings.add("UNKNOWN_FIELD", f"the output of '{what}': {said}", path)


def _read_steps(reference: Reference) -> Steps:
    """Return the steps into an output that an expression needs; none when it needs none."""
    steps = reference.steps
    if reference.tested or not steps:
        return ()
    if reference.kind == "round":
        return steps
    if reference.task < 0:
        return ()
    if reference.kind == "own":
        return steps[1:] if steps[0] == "output" else ()
    return () if steps[0] in OWN_FIELDS else steps


def _listed(schema: Any, task: TaskSource, reader: TaskSource, reference: Reference) -> Any:
    """Return the schema of a task's output: of a for_each, a list of what each item gives.

    In its compensation the task's name stands for the item that is undone.
    """
    if not task.fans_out or reference.kind == "round" or reader.compensates == task.index:
        return schema
    # An item without an output is null in the list: then a field is missing when it is read.
    return {"type": "array", "items": schema}


def _close(key: str, near: str) -> bool:
    """Tell whether a key is an engine's key but for case and separators, or nearly so."""
    plain = key.lower().replace("-", "").replace("_", "")
    wanted = near.split("'")[1].replace("_", "")
    return plain == wanted or (len(wanted) > 6 and abs(len(plain) - len(wanted)) <= 1)


def literal_parts(value: object) -> Any:
    """Return a value with ANYTHING or AnyText in place of templates."""
    if isinstance(value, str):
        if OPEN not in value:
            return value
        try:
            pieces = split_template(value)
        except BadExpression:
            return ANYTHING
        whole = len(pieces) == 1 and isinstance(pieces[0], Embedded)
        return ANYTHING if whole else AnyText("a template")
    if isinstance(value, dict):
        return {key: literal_parts(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [literal_parts(entry) for entry in value]
    return value


def _marked(value: Any) -> Any:
    """Return a form of literal parts that can be compared by its JSON."""
    if value is ANYTHING:
        return {"\0": 1}
    if isinstance(value, AnyText):
        return {"\0": 2}
    if isinstance(value, dict):
        return {key: _marked(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_marked(entry) for entry in value]
    return value


def ruled_out(schema: Any, steps: Steps, name: str) -> str:
    """Say why a schema leaves no place for a path, or nothing when it may exist."""
    return _ruled_out(schema, schema, steps, name, 0)


def _ruled_out(root: Any, schema: Any, steps: Steps, shown: str, depth: int) -> str:
    if not steps or depth > REFERENCE_DEPTH_MAX or schema is True:
        return ""
    if not isinstance(schema, Mapping):
        return f"{shown} is never there" if schema is False else ""
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#"):
        said = _ruled_out(root, resolve(root, reference), steps, shown, depth + 1)
        if said:
            return said
    for part in schema.get("allOf", ()):
        said = _ruled_out(root, part, steps, shown, depth + 1)
        if said:
            return said
    for word in ("anyOf", "oneOf"):
        answers = [_ruled_out(root, part, steps, shown, depth + 1) for part in schema.get(word, ())]
        if answers and all(answers):
            return answers[0]
    return _by_type(root, schema, steps, shown, depth)


def _by_type(root: Any, schema: Mapping[str, Any], steps: Steps, shown: str, depth: int) -> str:
    step = steps[0]
    kinds = schema.get("type")
    kinds = [kinds] if isinstance(kinds, str) else kinds
    needed = "object" if isinstance(step, str) else "array"
    if kinds and needed not in kinds:
        return f"{shown} is {' or '.join(kinds)} and has no {_named(step)}"
    if isinstance(step, int):
        return _ruled_out(root, schema.get("items", True), steps[1:], f"{shown}[{step}]", depth + 1)
    known = schema.get("properties", {})
    if step in known:
        deeper = show_steps(shown, (step,))
        return _ruled_out(root, known[step], steps[1:], deeper, depth + 1)
    closed = schema.get("additionalProperties") is False
    if closed and not schema.get("patternProperties"):
        near = nearest(step, known)
        fields = ", ".join(list(known)[:20]) or "no field"
        return f"{shown} has no {_named(step)}{near}; it has: {fields}"
    return ""


def _named(step: str | int) -> str:
    return f"entry {step}" if isinstance(step, int) else f"field '{step}'"
