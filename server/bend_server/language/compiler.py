"""Document to definition: parse, read, check, link."""

import re
from typing import Any

from bend_server.core import limits
from bend_server.core.errors import Finding, InvalidDocument
from bend_server.core.model import Phase
from bend_server.core.plan import ConcurrencyPlan, ConcurrencyStrategy
from bend_server.language.cel_library import Programs
from bend_server.language.collector import paused_collector
from bend_server.language.contracts import check_shapes
from bend_server.language.definition import Definition, Header
from bend_server.language.findings import Findings, Locator, Path, cut, show_path
from bend_server.language.graph import link
from bend_server.language.json_source import BadText, JsonLocator, decode_text, parse_json
from bend_server.language.keys import (
    DEFAULTS,
    DESCRIPTION_CHARS_MAX,
    NAME_PATTERN,
    WORKFLOW,
    WORKFLOW_CONCURRENCY,
)
from bend_server.language.names import Names, Reference
from bend_server.language.payloads import Memory, dump
from bend_server.language.reader import Reader, kind_of
from bend_server.language.retries import read_retry
from bend_server.language.schemas import BadSchema, Schema
from bend_server.language.sources import TaskSource
from bend_server.language.task_compiler import compile_key, compile_task
from bend_server.language.tasks import TaskDefaults, read_task
from bend_server.language.templates import Compiled, Templates
from bend_server.language.yaml_source import YamlLocator, parse_yaml

NAME = re.compile(NAME_PATTERN)
ON_FAILURE = {"fail": False, "pause": True}
STRATEGIES = {
    "queue": ConcurrencyStrategy.QUEUE,
    "cancel_oldest": ConcurrencyStrategy.CANCEL_OLDEST,
    "cancel_newest": ConcurrencyStrategy.CANCEL_NEWEST,
}


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

    __slots__ = ("_defaults", "_findings", "_header", "_locator", "_programs", "_reader")

    def __init__(self, findings: Findings, locator: Locator) -> None:
        self._findings = findings
        self._locator = locator
        self._reader = Reader(findings)
        self._programs = Programs()
        self._header = Header()
        self._defaults = TaskDefaults(self._reader, self._programs)

    def definition(self, value: object) -> Definition | None:
        """Return the definition, or None with findings."""
        findings = self._findings
        if not isinstance(value, dict):
            findings.add("WRONG_TYPE", f"a workflow is a map, not {kind_of(value)}", ())
            return None
        self._reader.known(value, WORKFLOW, (), "a workflow")
        self._read_header(value)
        schema = self._read_schema(value)
        tasks = self._read_tasks(value)
        main_count = len(tasks)
        tasks += self._read_on_failure(value, main_count)
        index = self._index(tasks)
        names = Names(index, main_count)
        templates = Templates(names, self._programs, Memory(), findings)
        for task in tasks:
            if findings.full:
                break
            compile_task(task, templates)
        output = self._read_output(value, templates)
        if "concurrency" in value:
            self._header.concurrency = self._read_concurrency(value["concurrency"], templates)
        graph = link(tasks, index, findings)
        check_shapes(tasks, findings)
        tasks += undoing(tasks)
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
        self._header.main_count = main_count
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
        defaults = self._defaults
        if "retry" in found:
            defaults.retry = read_retry(reader, found["retry"], (*path, "retry"), defaults.retry)
        if "timeout" in found:
            duration_us = reader.duration(found["timeout"], (*path, "timeout"))
            defaults.timeout_us = duration_us or defaults.timeout_us

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
                read_task(self._defaults, entry, at, ("tasks", at), Phase.MAIN)
                for at, entry in enumerate(found)
            ]
        return []

    def _read_on_failure(self, value: dict[str, Any], main_count: int) -> list[TaskSource]:
        found, path = value.get("on_failure", "fail"), ("on_failure",)
        if not isinstance(found, list):
            if not isinstance(found, str):
                self._reader.wrong(path, "fail, pause or a list of tasks", found)
                return []
            pauses = self._reader.choice(found, path, ON_FAILURE)
            self._header.pause_on_failure = pauses or False
            return []
        total = main_count + len(found)
        if not found:
            self._findings.add("MISSING_KEY", "on_failure needs at least one task", path)
        elif total > limits.TASKS_MAX:
            self._findings.add("TOO_LARGE", f"{total} tasks; {limits.TASKS_MAX} are allowed", path)
        else:
            return [
                read_task(self._defaults, entry, main_count + at, (*path, at), Phase.ON_FAILURE)
                for at, entry in enumerate(found)
            ]
        return []

    def _read_concurrency(self, value: object, templates: Templates) -> ConcurrencyPlan | None:
        reader, path = self._reader, ("concurrency",)
        found = reader.keyed(value, WORKFLOW_CONCURRENCY, path, "concurrency")
        if found is None:
            return None
        limit, strategy = 1, ConcurrencyStrategy.QUEUE
        if "limit" in found:
            place = (*path, "limit")
            limit = reader.integer(found["limit"], place, 1, limits.CONCURRENCY_MAX) or 1
        if "strategy" in found:
            place = (*path, "strategy")
            strategy = reader.choice(found["strategy"], place, STRATEGIES) or strategy
        place = (*path, "key")
        text = reader.text(found.get("key", ""), place, limits.EXPRESSION_BYTES_MAX)
        if text is None:
            return None
        references: list[tuple[Reference, Path]] = []
        key = compile_key(text, place, "concurrency.key", templates, references)
        for reference, _ in references:
            if reference.task >= 0:
                self._findings.add(
                    "OUT_OF_PLACE",
                    f"the key is judged before any task runs: '{reference.name}' has no output yet",
                    place,
                )
        return None if key is None else ConcurrencyPlan(key, limit, strategy)

    def _index(self, tasks: list[TaskSource]) -> dict[str, int]:
        index: dict[str, int] = {}
        for task in tasks:
            if not task.id:
                continue
            first = index.setdefault(task.id, task.index)
            if first != task.index:
                place = show_path(tasks[first].path)
                self._findings.add(
                    "DUPLICATE_ID", f"{place} has the id '{task.id}' too", (*task.path, "id")
                )
        return index

    def _read_output(self, value: dict[str, Any], templates: Templates) -> Compiled | None:
        if "output" not in value:
            return None
        found = self._reader.map(value["output"], ("output",))
        if found is None:
            return None
        return templates.compile(found, ("output",), "output", secrets=False, places={})


def undoing(tasks: list[TaskSource]) -> list[TaskSource]:
    """Return the tasks that undo others, with the indexes after all others."""
    found = [
        task.control.compensation
        for task in tasks
        if task.control is not None and task.control.compensation is not None
    ]
    for at, task in enumerate(found, len(tasks)):
        task.index = at
    return found
