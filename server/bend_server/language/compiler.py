"""Document to definition: parse, read, check, link."""

import re
from collections.abc import Mapping
from typing import Any

from bend_server.core import limits
from bend_server.core.errors import Finding, InvalidDocument
from bend_server.core.plan import RetryPolicy
from bend_server.language.cel_library import Programs
from bend_server.language.collector import paused_collector
from bend_server.language.definition import Definition, Header
from bend_server.language.findings import Findings, Locator, cut, show_path
from bend_server.language.graph import link
from bend_server.language.json_source import BadText, JsonLocator, decode_text, parse_json
from bend_server.language.names import Names
from bend_server.language.payloads import Memory, dump
from bend_server.language.reader import Reader, kind_of
from bend_server.language.retries import read_retry
from bend_server.language.schemas import BadSchema, Schema
from bend_server.language.tasks import TaskSource, read_task
from bend_server.language.templates import Compiled, Templates
from bend_server.language.yaml_source import YamlLocator, parse_yaml

# Every key of a workflow, and whether it is built.
KEYS: Mapping[str, bool] = {
    **dict.fromkeys(
        (
            "name",
            "description",
            "labels",
            "input",
            "output",
            "timeout",
            "priority",
            "defaults",
            "tasks",
        ),
        True,
    ),
    **dict.fromkeys(("concurrency", "on_failure"), False),
}
DEFAULTS: Mapping[str, bool] = {"retry": True, "timeout": True}
NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,127}")
DESCRIPTION_CHARS_MAX = 65_536


def compile_document(data: bytes, content_type: str) -> Definition:
    """Check a workflow document and compile it.

    Guarantees: pure; the same bytes give the same definition.

    Args:
        data: YAML or JSON, UTF-8, at most limits.DOCUMENT_BYTES_MAX.
        content_type: a media type; one that names JSON makes the text JSON, any other YAML
            (of which JSON is a part).

    Raises:
        InvalidDocument: with every finding, at most 100, in document order.
    """
    with paused_collector():
        value, locator = _parsed(data, content_type)
        findings = Findings()
        definition = _Compilation(findings, locator).definition(value)
        if definition is None:
            raise InvalidDocument(findings.placed(locator))
        return definition


def findings_of(data: bytes, content_type: str) -> list[Finding]:
    """Return what is wrong with a document, in document order; empty when nothing."""
    try:
        compile_document(data, content_type)
    except InvalidDocument as error:
        return error.findings
    return []


def _parsed(data: bytes, content_type: str) -> tuple[object, Locator]:
    if len(data) > limits.DOCUMENT_BYTES_MAX:
        message = f"the document has {len(data)} bytes; {limits.DOCUMENT_BYTES_MAX} are allowed"
        raise InvalidDocument([Finding("TOO_LARGE", message, "", 1, 1)])
    try:
        text = decode_text(data)
        if "json" in content_type.lower() or text.lstrip()[:1] == "{":
            return _json(text, strict="json" in content_type.lower())
        return parse_yaml(text), YamlLocator(text)
    except BadText as error:
        finding = Finding(
            error.reason,
            cut(error.message),
            show_path(error.path),
            max(error.line, 1),
            max(error.column, 1),
        )
        raise InvalidDocument([finding]) from error


def _json(text: str, *, strict: bool) -> tuple[object, Locator]:
    """Parse JSON; a YAML flow map starts like JSON, so it gets a second chance as YAML."""
    try:
        return parse_json(text), JsonLocator(text)
    except BadText as error:
        if strict or error.reason != "SYNTAX":
            raise
        return parse_yaml(text), YamlLocator(text)


class _Compilation:
    """One document on its way to a definition."""

    __slots__ = ("_findings", "_header", "_locator", "_programs", "_reader", "_retry", "_timeout")

    def __init__(self, findings: Findings, locator: Locator) -> None:
        self._findings = findings
        self._locator = locator
        self._reader = Reader(findings)
        self._programs = Programs()
        self._header = Header()
        self._retry = RetryPolicy()
        self._timeout = limits.TASK_TIMEOUT_US

    def definition(self, value: object) -> Definition | None:
        """Return the definition, or None with findings."""
        findings = self._findings
        if not isinstance(value, dict):
            findings.add("WRONG_TYPE", f"a workflow is a map, not {kind_of(value)}", ())
            return None
        self._reader.known(value, KEYS, (), "a workflow")
        self._read_header(value)
        schema = self._read_schema(value)
        tasks = self._read_tasks(value)
        index = self._index(tasks)
        templates = Templates(Names(index), self._programs, Memory(), findings)
        for task in tasks:
            if findings.full:
                break
            _compile_task(task, templates)
        output = self._read_output(value, templates)
        graph = link(tasks, index, findings)
        canonical = dump(value)
        if len(canonical) > limits.DOCUMENT_BYTES_MAX:
            findings.add(
                "TOO_LARGE",
                f"as JSON the document has {len(canonical)} bytes; "
                f"{limits.DOCUMENT_BYTES_MAX} are allowed",
                (),
            )
        if len(findings):
            return None
        return Definition(
            self._header, tasks, graph, output, schema, templates, canonical, self._locator
        )

    def _read_header(self, value: dict[str, Any]) -> None:
        reader, header = self._reader, self._header
        if "name" not in value:
            self._findings.add("MISSING_KEY", "a workflow needs 'name'", ())
        else:
            header.name = reader.matching(value["name"], ("name",), NAME, "workflow name") or ""
        if "description" in value:
            path = ("description",)
            header.description = (
                reader.text(value["description"], path, DESCRIPTION_CHARS_MAX) or ""
            )
        if "labels" in value:
            header.labels = reader.labels(value["labels"], ("labels",))
        if "timeout" in value:
            duration_us = reader.duration(value["timeout"], ("timeout",))
            header.timeout_us = duration_us or header.timeout_us
        if "priority" in value:
            header.priority = reader.integer(value["priority"], ("priority",), 1, 9) or 5
        if "defaults" in value:
            self._read_defaults(value["defaults"])

    def _read_defaults(self, value: object) -> None:
        reader, path = self._reader, ("defaults",)
        found = reader.map(value, path)
        if not found:
            return
        reader.known(found, DEFAULTS, path, "defaults")
        if "retry" in found:
            self._retry = read_retry(reader, found["retry"], (*path, "retry"), self._retry)
        if "timeout" in found:
            duration_us = reader.duration(found["timeout"], (*path, "timeout"))
            self._timeout = duration_us or self._timeout

    def _read_schema(self, value: dict[str, Any]) -> Schema | None:
        if "input" not in value:
            return None
        document = value["input"]
        if not isinstance(document, dict | bool):
            self._reader.wrong(("input",), "a JSON Schema", document)
            return None
        try:
            return Schema(document, self._programs)
        except BadSchema as error:
            self._findings.add(
                "BAD_SCHEMA", f"not a JSON Schema: {error.message}", ("input", *error.path)
            )
            return None

    def _read_tasks(self, value: dict[str, Any]) -> list[TaskSource]:
        found = value.get("tasks")
        if "tasks" not in value:
            self._findings.add("MISSING_KEY", "a workflow needs 'tasks'", ())
        elif not isinstance(found, list):
            self._reader.wrong(("tasks",), "a list", found)
        elif not found:
            self._findings.add("MISSING_KEY", "a workflow needs at least one task", ("tasks",))
        elif len(found) > limits.TASKS_MAX:
            self._findings.add(
                "TOO_LARGE", f"{len(found)} tasks; {limits.TASKS_MAX} are allowed", ("tasks",)
            )
        else:
            return [
                read_task(self._reader, entry, at, self._retry, self._timeout)
                for at, entry in enumerate(found)
            ]
        return []

    def _index(self, tasks: list[TaskSource]) -> dict[str, int]:
        index: dict[str, int] = {}
        for task in tasks:
            if not task.id:
                continue
            first = index.setdefault(task.id, task.index)
            if first != task.index:
                self._findings.add(
                    "DUPLICATE_ID", f"tasks[{first}] has the id '{task.id}' too", (*task.path, "id")
                )
        return index

    def _read_output(self, value: dict[str, Any], templates: Templates) -> Compiled | None:
        if "output" not in value:
            return None
        found = self._reader.map(value["output"], ("output",))
        if found is None:
            return None
        return templates.compile(found, ("output",), "output", secrets=False, places={})


def _compile_task(task: TaskSource, templates: Templates) -> None:
    if task.condition is not None:
        task.expression = templates.expression(task.condition, (*task.path, "condition"))
    task.input = templates.compile(
        task.inputs, task.path, f"task {task.id}", secrets=True, places=task.places
    )
