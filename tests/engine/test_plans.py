"""Plans from stored documents, and a whole execution of one."""

import asyncio
from collections.abc import Callable

import pytest

from bend_server.core.errors import InvalidDocument, NotFound
from bend_server.core.model import ExecutionStatus
from bend_server.core.plan import Plan
from bend_server.engine.plans import StoredPlans
from tests.engine.house import House, begin, completed, finish, housed

DOCUMENT = b"""
name: greet
tasks:
  - id: a
    type: test.echo
    text: "hello {{input.name}}"
  - id: b
    type: test.echo
    text: "{{a.text}}!"
    condition: a.text != ""
"""


async def _put(house: House, document: bytes, pins: bytes = b"{}", name: str = "greet") -> int:
    summary, _ = await house.stores.workflows.put_revision(
        "default",
        name,
        document=document,
        digest=repr(document),
        description="",
        labels=b"{}",
        task_count=2,
        pins=pins,
        plan_format=1,
        now_us=1,
        create_only=False,
    )
    return summary.revision


@housed
async def test_a_document_runs(house: House) -> None:
    await _put(house, DOCUMENT, b'{"test.echo": 1}')
    house.plans = plans = StoredPlans(house.stores.engine)  # type: ignore[assignment]
    engine = await house.engine()
    executor = await house.executor(lambda task: completed(task, task.input))
    plan = await plans.plan("default", "greet", 1)
    assert plan.tasks[0].major == 1
    outcome = await begin(engine, plan, input=b'{"name":"Ada"}')
    assert await finish(engine, outcome.execution) == ExecutionStatus.COMPLETED
    assert [task.input for task in executor.seen] == [
        b'{"text":"hello Ada"}',
        b'{"text":"hello Ada!"}',
    ]


@housed
async def test_a_plan_is_compiled_once_and_kept(house: House) -> None:
    await _put(house, DOCUMENT)
    compiled = 0

    async def offload(work: Callable[[], Plan]) -> Plan:
        nonlocal compiled
        compiled += 1
        await house.pause(1.0)
        return work()

    plans = StoredPlans(house.stores.engine, offload, kept_max=1)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(plans.plan("default", "greet", 1)) for _ in range(5)]
    assert compiled == 1
    assert len({id(task.result()) for task in tasks}) == 1
    await _put(house, DOCUMENT.replace(b"greet", b"other"), name="other")
    await plans.plan("default", "other", 1)
    assert plans.known("default", "greet", 1) is None


@housed
async def test_faults_are_told_and_not_kept(house: House) -> None:
    plans = StoredPlans(house.stores.engine)
    with pytest.raises(NotFound):
        await plans.plan("default", "greet", 1)
    await _put(house, b"name: greet\n")
    with pytest.raises(InvalidDocument):
        await plans.plan("default", "greet", 1)
    await _put(house, DOCUMENT)
    assert len((await plans.plan("default", "greet", 2)).tasks) == 2
