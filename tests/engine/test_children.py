"""Children: started with their parents' rows, told by their ends, cancelled and retried along."""

import orjson
import pytest

from bend_server.core import limits
from bend_server.core.errors import WrongState
from bend_server.core.model import ExecutionStatus, Failure, Phase, TaskStatus
from bend_server.core.plan import Plan, Rendered, RetryPolicy, Scope
from tests.engine.control import items, own, plan
from tests.engine.house import House, begin, completed, failed, finish, housed, until
from tests.kit.plans import Task

COMPLETED, FAILED = ExecutionStatus.COMPLETED, ExecutionStatus.FAILED
CANCELLED = ExecutionStatus.CANCELLED


def first_output(scope: Scope) -> bytes:
    return scope.output(0) or b"null"


async def family(house: House, **fields: object) -> tuple[Plan, Plan]:
    """Make a parent with one child known; the child has one task."""
    child = plan(Task(id="work"), workflow="child", output=first_output)
    body = {"workflow": "child", "input": {"a": 1}}
    parent = plan(own("call", "workflow", body, **fields), workflow="parent", output=first_output)
    await house.workflow(child)
    await house.workflow(parent)
    return parent, child


def children_of(house: House, parent: int) -> list[int]:
    return [
        number
        for number, record in sorted(house.database.executions.items())
        if record.start.parent == parent
    ]


def reason(house: House, execution: int) -> Failure:
    finish_row = house.record(execution).finish
    assert finish_row is not None
    assert finish_row.error is not None
    return Failure.from_json(finish_row.error)


@housed
async def test_a_child_gives_its_output_to_its_parent(house: House) -> None:
    engine = await house.engine()
    await house.executor(lambda task: completed(task, b'{"n":7}'))
    parent, _ = await family(house)
    started = await begin(engine, parent)
    assert await finish(engine, started.execution) == COMPLETED
    (child,) = children_of(house, started.execution)
    start = house.record(child).start
    assert (start.input, start.root, start.parent_task) == (b'{"a":1}', started.execution, 0)
    assert start.partition == house.record(started.execution).start.partition
    end = house.record(started.execution).finish
    assert end is not None
    assert end.output == b'{"n":7}'


@housed
async def test_a_task_runs_while_its_child_does_and_not_between_two_of_them(house: House) -> None:
    engine = await house.engine()
    executor = await house.executor(lambda task: None)
    pause = RetryPolicy(
        attempts_max=2, initial_us=50_000_000, jitter=False, on=frozenset({"CHILD_FAILED"})
    )
    parent, _ = await family(house, retry=pause)
    started = await begin(engine, parent)
    await until(lambda: len(executor.seen) == 1)
    (child,) = children_of(house, started.execution)
    (overlay,) = engine.waiting(started.execution)
    name = house.record(child).start.public_id
    assert (overlay.status, overlay.waiting) == (TaskStatus.RUNNING, f"child {name}")
    await house.publish_results(executor, [failed(executor.seen[0])])
    await until(lambda: engine.waiting(started.execution)[0].status == TaskStatus.WAITING)
    (overlay,) = engine.waiting(started.execution)
    assert overlay.waiting.startswith("retry at 20")


@housed
async def test_items_start_children_in_windows(house: House) -> None:
    engine = await house.engine()
    executor = await house.executor(lambda task: None)
    parent, _ = await family(house, for_each=items(*range(7)), parallel_max=3)
    started = await begin(engine, parent)
    await until(lambda: len(executor.seen) == 3)
    assert len(children_of(house, started.execution)) == 3
    executor.handle = completed
    done = [completed(task) for task in executor.seen]
    await house.publish_results(executor, done)
    assert await finish(engine, started.execution) == COMPLETED
    assert len(children_of(house, started.execution)) == 7


@housed
async def test_the_failure_of_a_child_fails_its_parent(house: House) -> None:
    engine = await house.engine()
    await house.executor(lambda task: failed(task, "BOOM"))
    parent, _ = await family(house)
    started = await begin(engine, parent)
    assert await finish(engine, started.execution) == FAILED
    failure = reason(house, started.execution)
    assert (failure.reason, failure.task) == ("CHILD_FAILED", "call")
    row = house.record(started.execution).results[0, -1, 1]
    details = orjson.loads(row.error or b"")["details"]
    assert details["error"]["reason"] == "BOOM"
    assert details["child"] == str(children_of(house, started.execution)[0])


@housed
async def test_a_cancel_reaches_the_children(house: House) -> None:
    engine = await house.engine()
    executor = await house.executor(lambda task: None)
    parent, _ = await family(house)
    started = await begin(engine, parent)
    await until(lambda: len(executor.seen) == 1)
    await engine.cancel(started.execution, reason="stop", actor="user/ada", request_id="")
    assert await finish(engine, started.execution) == CANCELLED
    (child,) = children_of(house, started.execution)
    assert await finish(engine, child) == CANCELLED


@housed
async def test_a_cancelled_child_is_a_failed_task(house: House) -> None:
    engine = await house.engine()
    executor = await house.executor(lambda task: None)
    parent, _ = await family(house)
    started = await begin(engine, parent)
    await until(lambda: len(executor.seen) == 1)
    (child,) = children_of(house, started.execution)
    await engine.cancel(child, reason="stop", actor="user/ada", request_id="")
    assert await finish(engine, started.execution) == FAILED
    assert reason(house, started.execution).reason == "CHILD_CANCELLED"


@pytest.mark.parametrize("again", [False, True])
def test_a_retry_of_the_root_goes_into_the_child(again: bool) -> None:
    @housed
    async def run(house: House) -> None:
        engine = await house.engine()
        executor = await house.executor(lambda task: failed(task, "BOOM"))
        parent, _ = await family(house)
        started = await begin(engine, parent)
        assert await finish(engine, started.execution) == FAILED
        (child,) = children_of(house, started.execution)
        with pytest.raises(WrongState) as caught:
            await engine.retry(child, reason="", actor="")
        assert str(started.execution) in str(caught.value.metadata["root"])
        with pytest.raises(WrongState):
            await engine.reset(child, task="work", reason="", actor="")
        if again:
            opened = await engine.retry(started.execution, reason="", actor="", request_id="r")
            assert opened.run == 2
            assert await finish(engine, started.execution) == FAILED
        executor.handle = completed
        opened = await engine.retry(started.execution, reason="fixed", actor="", request_id="s")
        assert opened.run == 2 + again
        assert await finish(engine, started.execution) == COMPLETED
        assert children_of(house, started.execution) == [child]
        assert house.record(child).run == 2 + again
        same = await engine.retry(started.execution, reason="fixed", actor="", request_id="s")
        assert same.run == 2 + again

    run()


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ({"workflow": "nobody"}, "WORKFLOW_NOT_FOUND"),
        ({"workflow": "old"}, "WORKFLOW_ARCHIVED"),
        ({"workflow": "child", "revision": 9}, "WORKFLOW_NOT_FOUND"),
        ({"workflow": "strict", "input": {}}, "INVALID_PARAMETERS"),
        ({"workflow": "child", "input": [1]}, "INVALID_PARAMETERS"),
        ({}, "INVALID_REQUEST"),
    ],
)
def test_a_child_that_cannot_start_says_why(body: object, wanted: str) -> None:
    @housed
    async def run(house: House) -> None:
        engine = await house.engine()
        for name, schema in (
            ("child", None),
            ("old", None),
            ("strict", {"type": "object", "required": ["a"]}),
        ):
            await house.workflow(plan(Task(id="work"), workflow=name, input_schema=schema))
        await house.stores.workflows.set_archived("default", "old", True, 1)
        parent = plan(own("call", "workflow", body), workflow="parent")
        await house.workflow(parent)
        started = await begin(engine, parent)
        assert await finish(engine, started.execution) == FAILED
        assert reason(house, started.execution).reason == wanted
        assert children_of(house, started.execution) == []

    run()


@housed
async def test_a_workflow_that_calls_itself_ends_at_the_limit(house: House) -> None:
    engine = await house.engine()
    endless = plan(own("call", "workflow", {"workflow": "endless"}), workflow="endless")
    await house.workflow(endless)
    started = await begin(engine, endless)
    assert await finish(engine, started.execution) == FAILED
    assert len(house.database.executions) == limits.CHILD_DEPTH_MAX + 1


def test_a_tree_has_a_limited_number_of_executions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The root and its children and theirs count; what runs beside the tree does not."""
    monkeypatch.setattr(limits, "TREE_EXECUTIONS_MAX", 8)

    @housed
    async def run(house: House) -> None:
        engine = await house.engine()
        await house.executor()
        await house.workflow(plan(Task(id="work"), workflow="leaf"))
        middle = plan(own("call", "workflow", {"workflow": "leaf"}), workflow="middle")
        await house.workflow(middle)
        calls = own("call", "workflow", {"workflow": "middle"}, for_each=items(*range(5)))
        calls.parallel_max = 1
        parent = plan(calls, workflow="parent")
        await house.workflow(parent)
        await begin(engine, middle)
        started = await begin(engine, parent)
        assert await finish(engine, started.execution) == FAILED
        # The root, three of its children with one child each, and one whose child had no room.
        tree = [one.start for one in house.database.executions.values()]
        assert sum(start.root == started.execution for start in tree) == 7
        refused = children_of(house, started.execution)[-1]
        assert reason(house, refused).reason == "TOO_LARGE"
        assert "8 executions" in reason(house, refused).message
        calls.for_each, calls.parallel_max = items(*range(20)), 20
        wide = await house.workflow(plan(calls, workflow="wide"))
        again = await begin(engine, wide)
        assert await finish(engine, again.execution) == FAILED
        assert len(children_of(house, again.execution)) == 7

    run()


@pytest.mark.parametrize("moment", range(6))
def test_a_crash_at_any_moment_loses_no_child(moment: int) -> None:
    """The engine dies somewhere between start, child's start, child's end and parent's end."""

    @housed
    async def run(house: House) -> None:
        first = await house.engine("e1")
        await house.executor(lambda task: completed(task, b"5"))
        parent, _ = await family(house, for_each=items(1, 2, 3), parallel_max=2)
        started = await begin(first, parent)
        await house.pause(0.004 * moment)
        await house.crash(first)
        second = await house.engine("e2")
        assert await finish(second, started.execution, within_s=120) == COMPLETED
        children = children_of(house, started.execution)
        assert len(children) == 3
        assert all(house.record(child).status == COMPLETED for child in children)

    run()


@housed
async def test_an_end_that_nobody_told_is_found_in_sql(house: House) -> None:
    """The child ends while its parent's partition is away; a takeover asks SQL."""
    first = await house.engine("e1")
    executor = await house.executor(lambda task: None)
    parent, _ = await family(house)
    started = await begin(first, parent)
    await until(lambda: len(executor.seen) == 1)
    (child,) = children_of(house, started.execution)
    await house.crash(first)
    record = house.record(child)
    task = executor.seen[0]
    await house.publish_results(executor, [completed(task, b"3")])
    second = await house.engine("e2")
    assert await finish(second, started.execution) == COMPLETED
    assert record.status == COMPLETED
    row = house.record(started.execution).results[0, -1, 1]
    assert (row.status, row.output) == (TaskStatus.COMPLETED, b"3")


@housed
async def test_a_large_input_reaches_the_child_whole(house: House) -> None:
    engine = await house.engine()
    await house.executor()
    child = plan(Task(id="work"), workflow="child")
    data = orjson.dumps({"workflow": "child", "input": {"text": "x" * 200_000}})

    def render(scope: Scope) -> Rendered:
        return Rendered(data)

    call = own("call", "workflow", {})
    call.render = render
    parent = plan(call, workflow="parent")
    await house.workflow(child)
    await house.workflow(parent)
    started = await begin(engine, parent)
    assert await finish(engine, started.execution) == COMPLETED
    (number,) = children_of(house, started.execution)
    assert len(house.record(number).start.input) > 200_000


@housed
async def test_a_child_that_undid_itself_is_replaced_by_the_retry(house: House) -> None:
    """A compensated run cannot be retried: the parent's retry starts another child."""
    engine = await house.engine()
    bad = {"on": True}

    def handle(task: object) -> object:
        broken = bad["on"] and task.task_id == "last"  # type: ignore[attr-defined]
        return failed(task, "BOOM") if broken else completed(task)  # type: ignore[arg-type]

    await house.executor(handle)  # type: ignore[arg-type]
    child = plan(
        Task(id="work"),
        Task(id="last", after=["work"]),
        Task(id="undo", phase=Phase.COMPENSATION, undoes="work"),
        workflow="child",
    )
    parent = plan(own("call", "workflow", {"workflow": "child"}), workflow="parent")
    await house.workflow(child)
    await house.workflow(parent)
    started = await begin(engine, parent)
    assert await finish(engine, started.execution) == FAILED
    bad["on"] = False
    await engine.retry(started.execution, reason="", actor="")
    assert await finish(engine, started.execution) == COMPLETED
    first, second = children_of(house, started.execution)
    assert (house.record(first).status, house.record(second).status) == (FAILED, COMPLETED)
