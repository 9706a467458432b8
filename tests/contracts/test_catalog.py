"""Workflows with their revisions, and components with their versions."""

import asyncio
from typing import Any

import pytest

from bend_server.core.errors import AlreadyExists, WrongState
from bend_server.ports.store import ComponentRow
from bend_server.storage.stores import Stores
from tests.kit.backends import Backend
from tests.kit.loops import in_loop
from tests.kit.rows import T0_US


async def put(stores: Stores, document: bytes, **changes: Any) -> tuple[int, bool]:
    """Store a revision; return its number and whether it was stored."""
    wishes = {
        "document": document,
        "digest": f"of {document!r}",
        "description": document.decode(),
        "labels": b"{}",
        "task_count": len(document),
        "pins": b'{"a":1}',
        "plan_format": 1,
        "now_us": T0_US,
        "create_only": False,
    }
    summary, stored = await stores.workflows.put_revision("default", "triage", **wishes | changes)
    return summary.revision, stored


@in_loop
async def test_only_a_changed_document_makes_a_revision(backend: Backend) -> None:
    async with backend.open() as stores:
        assert await put(stores, b"one") == (1, True)
        assert await put(stores, b"one", now_us=T0_US + 1) == (1, False)
        assert await put(stores, b"two", now_us=T0_US + 2) == (2, True)
        assert await put(stores, b"one", now_us=T0_US + 3) == (3, True)
        workflow = await stores.reads.workflow("default", "triage")
        assert workflow is not None
        assert (workflow.revision, workflow.description, workflow.task_count) == (3, "one", 3)
        assert (workflow.created_us, workflow.updated_us) == (T0_US, T0_US + 3)
        assert workflow.archived is False
        second = await stores.reads.revision("default", "triage", 2)
        assert second is not None
        assert (second.document, second.pins, second.created_us) == (b"two", b'{"a":1}', T0_US + 2)
        newest = await stores.reads.revisions("default", "triage", None, 2)
        assert [(row.revision, row.document) for row in newest] == [(3, b""), (2, b"")]
        assert [r.revision for r in await stores.reads.revisions("default", "triage", 2, 9)] == [1]
        assert await stores.reads.revision("default", "triage", 9) is None
        assert await stores.reads.workflow("alien", "triage") is None


@in_loop
async def test_create_only_and_archived_refuse(backend: Backend) -> None:
    async with backend.open() as stores:
        await put(stores, b"one", create_only=True)
        assert await put(stores, b"one", create_only=True) == (1, False)
        with pytest.raises(AlreadyExists) as taken:
            await put(stores, b"two", create_only=True)
        assert taken.value.reason == "WORKFLOW_EXISTS"
        archived = await stores.workflows.set_archived("default", "triage", True, T0_US + 5)
        assert archived is not None
        assert (archived.archived, archived.updated_us) == (True, T0_US + 5)
        with pytest.raises(WrongState) as closed:
            await put(stores, b"two")
        assert closed.value.reason == "WORKFLOW_ARCHIVED"
        reads = stores.reads
        assert await reads.workflows("default", archived=False, after=None, limit=9) == []
        assert len(await reads.workflows("default", archived=True, after=None, limit=9)) == 1
        await stores.workflows.set_archived("default", "triage", False, T0_US + 6)
        assert await put(stores, b"two") == (2, True)
        assert await stores.workflows.set_archived("default", "none", True, T0_US) is None


@in_loop
async def test_revisions_put_at_once_are_all_kept(backend: Backend) -> None:
    async with backend.open() as stores:
        await put(stores, b"first")
        async with asyncio.TaskGroup() as group:
            puts = [group.create_task(put(stores, b"%d" % n)) for n in range(6)]
        assert sorted(task.result()[0] for task in puts) == list(range(2, 8))


def version(name: str, number: str, **changes: Any) -> ComponentRow:
    """Make a component's version."""
    row = ComponentRow(
        namespace="default",
        name=name,
        version=number,
        major=int(number.partition(".")[0]),
        description=f"{name} does 100% good",
        contract=b"{}",
        input_schema=b'{"type":"object"}',
        output_schema=b"true",
        long_running=False,
        heartbeats=True,
        deprecated=False,
        digest=f"{name} {number}",
        created_us=T0_US,
    )
    return row._replace(**changes)


@in_loop
async def test_a_version_is_stored_once_with_one_contract(backend: Backend) -> None:
    async with backend.open() as stores:
        row = version("vision.detect", "1.0.0")
        assert await stores.registry.put_version(row) == (row, True)
        again = row._replace(created_us=T0_US + 9)
        assert await stores.registry.put_version(again) == (row, False)
        with pytest.raises(WrongState) as other:
            await stores.registry.put_version(row._replace(digest="else"))
        assert other.value.reason == "CONTRACT_MISMATCH"
        assert await stores.registry.component_versions("default", "vision.detect") == [row]
        assert await stores.registry.component_versions("alien", "vision.detect") == []


@in_loop
async def test_versions_are_ordered_by_meaning(backend: Backend) -> None:
    async with backend.open() as stores:
        numbers = ["1.2.0", "1.10.0", "2.0.0-rc.2", "2.0.0-rc.10", "1.9.9", "2.0.0-beta"]
        for number in numbers:
            await stores.registry.put_version(version("a.b", number))
        found = await stores.registry.component_versions("default", "a.b")
        assert [row.version for row in found] == [
            "2.0.0-rc.10",
            "2.0.0-rc.2",
            "2.0.0-beta",
            "1.10.0",
            "1.9.9",
            "1.2.0",
        ]


@in_loop
async def test_components_are_searched_and_paged(backend: Backend) -> None:
    async with backend.open() as stores:
        put_version = stores.registry.put_version
        await put_version(version("b.two", "1.0.0", description="Says HELLO_all"))
        await put_version(version("b.two", "1.1.0", description="Says HELLO_all"))
        await put_version(version("a.one", "1.0.0"))
        await put_version(version("c.three", "1.0.0", namespace="alien"))

        async def found(query: str, after: str | None = None, limit: int = 9) -> list[Any]:
            rows = await stores.registry.components(
                "default", query=query, after=after, limit=limit
            )
            return [(row.name, row.version, count) for row, count in rows]

        both = [("a.one", "1.0.0", 1), ("b.two", "1.1.0", 2)]
        assert await found("") == both
        assert await found("", after="a.one") == both[1:]
        assert await found("", limit=1) == both[:1]
        assert await found("hello_") == both[1:]
        assert await found("100%") == both[:1]
        assert await found("1%0") == []
        assert await found("TWO") == both[1:]


@in_loop
async def test_what_was_decided_about_versions_is_kept(backend: Backend) -> None:
    async with backend.open() as stores:
        registry = stores.registry
        for name, number in (("a.b", "1.0.0"), ("a.b", "2.0.0"), ("c.d", "1.0.0")):
            await registry.put_version(version(name, number))
        assert await registry.policies() == []
        assert await registry.set_deprecated("default", "a.b", "3.0.0", True) is None
        assert await registry.set_deprecated("alien", "a.b", "1.0.0", True) is None
        marked = await registry.set_deprecated("default", "a.b", "1.0.0", True)
        assert marked == version("a.b", "1.0.0", deprecated=True)
        assert await registry.set_deprecated("default", "a.b", "1.0.0", True) == marked
        shares = {"1.0.0": 95, "2.0.0": 5}
        assert await registry.set_weights("default", "a.b", shares, T0_US) == []
        unknown = {"1.0.0": 1, "9.0.0": 1}
        assert await registry.set_weights("default", "a.b", unknown, T0_US) == ["a.b@9.0.0"]
        assert await registry.set_weights("default", "e.f", {}, T0_US) == ["e.f"]
        assert await registry.set_weights("default", "c.d", {"1.0.0": 1}, T0_US) == []
        first = ("default", "a.b", (("1.0.0", 95), ("2.0.0", 5)), ("1.0.0",))
        second = ("default", "c.d", (("1.0.0", 1),), ())
        assert await registry.policies() == [first, second]
        assert await registry.policies("default", "a.b") == [first]
        assert await registry.policies("alien", "a.b") == []
        assert await registry.set_weights("default", "a.b", {}, T0_US) == []
        await registry.set_deprecated("default", "a.b", "1.0.0", False)
        assert await registry.policies() == [second]
