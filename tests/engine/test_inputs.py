"""Inputs: rendered late, large ones by reference, faults end the task alone."""

import orjson

from bend.internal.v1.frames_pb2 import QueuedResult, QueuedTask
from bend_server.core import limits
from bend_server.core.model import ExecutionStatus
from bend_server.core.plan import ExpressionError, Hole, HolePart, Rendered, RepeatPlan, Scope
from tests.engine.house import STATUS, House, begin, completed, finish, housed, result
from tests.kit.plans import Task, make_plan


@housed
async def test_an_expression_that_fails_ends_the_task(house: House) -> None:
    engine = await house.engine()
    executor = await house.executor()

    def broken(scope: Scope) -> Rendered:
        raise ExpressionError("a: output has no field risk")

    plan = await house.workflow(make_plan([Task(id="a", render=broken)]))
    outcome = await begin(engine, plan)
    assert await finish(engine, outcome.execution) == ExecutionStatus.FAILED
    error = house.record(outcome.execution).results[0, -1, 1].error
    assert error is not None
    assert orjson.loads(error)["reason"] == "EXPRESSION_ERROR"
    assert not executor.seen


@housed
async def test_a_large_input_travels_as_a_hole(house: House) -> None:
    engine = await house.engine()
    executor = await house.executor()
    large = b'"' + b"x" * (limits.INLINE_BYTES_MAX + 1) + b'"'
    secret = Hole("/key", (HolePart(secret="token"),))
    plan = await house.workflow(
        make_plan([Task(id="a", render=lambda scope: Rendered(large, (secret,)))])
    )
    outcome = await begin(engine, plan)
    assert await finish(engine, outcome.execution) == ExecutionStatus.COMPLETED
    (task,) = executor.seen
    assert task.input == b"null"
    root, other = task.holes
    assert root.path == ""
    assert house.blobs.data[root.parts[0].blob.key] == large
    assert root.parts[0].blob.size_bytes == len(large)
    assert (other.path, other.parts[0].secret) == ("/key", "token")


@housed
async def test_an_input_over_the_limit_is_refused(house: House) -> None:
    engine = await house.engine()
    huge = b'"' + bytes(limits.BLOB_BYTES_MAX) + b'"'
    plan = await house.workflow(make_plan([Task(id="a", render=lambda scope: Rendered(huge))]))
    await house.executor()
    outcome = await begin(engine, plan)
    assert await finish(engine, outcome.execution) == ExecutionStatus.FAILED
    error = house.record(outcome.execution).results[0, -1, 1].error
    assert error is not None
    body = orjson.loads(error)
    assert body["reason"] == "TOO_LARGE"
    assert str(limits.BLOB_BYTES_MAX) in body["message"]


@housed
async def test_frames_stay_under_their_bytes(house: House) -> None:
    """NATS refuses messages over 1 MB: a frame of large inputs would never arrive."""
    engine = await house.engine()
    executor = await house.executor()
    data = b'"' + b"y" * 60_000 + b'"'
    tasks = [Task(id=f"t{i}", render=lambda scope: Rendered(data)) for i in range(200)]
    plan = await house.workflow(make_plan(tasks))
    outcome = await begin(engine, plan)
    assert await finish(engine, outcome.execution) == ExecutionStatus.COMPLETED
    assert max(frame.ByteSize() for frame in executor.frames) <= limits.FRAME_BYTES_MAX


@housed
async def test_outputs_in_the_blob_store_are_loaded_for_expressions(house: House) -> None:
    engine = await house.engine()
    key = await house.blobs.put("default/1", b'{"risk":7}')
    other = await house.blobs.put("default/2", b'{"name":"n"}')

    def handle(task: object) -> object:
        index: int = task.task  # type: ignore[attr-defined]
        if index == 2:
            return completed(task)  # type: ignore[arg-type]
        one = result(task, STATUS.COMPLETED)  # type: ignore[arg-type]
        one.blob.key = (key, other)[index]
        return one

    def render(scope: Scope) -> Rendered:
        first, second = scope.output(0), scope.output(1)
        assert first is not None
        assert second is not None
        risk, name = orjson.loads(first)["risk"], orjson.loads(second)["name"]
        return Rendered(orjson.dumps([risk, name]))

    executor = await house.executor(handle)  # type: ignore[arg-type]
    plan = await house.workflow(
        make_plan([Task(id="a"), Task(id="b"), Task(id="c", after=["a", "b"], render=render)])
    )
    outcome = await begin(engine, plan)
    assert await finish(engine, outcome.execution) == ExecutionStatus.COMPLETED
    assert executor.seen[-1].input == b'[7,"n"]'


@housed
async def test_a_lost_blob_fails_what_needs_it(house: House) -> None:
    engine = await house.engine()

    def handle(task: object) -> object:
        one = result(task, STATUS.COMPLETED)  # type: ignore[arg-type]
        one.blob.key = "default/1/gone"
        return one

    await house.executor(handle)  # type: ignore[arg-type]
    plan = await house.workflow(make_plan([Task(id="a")]))
    outcome = await begin(engine, plan)
    assert await finish(engine, outcome.execution) == ExecutionStatus.FAILED
    row = house.record(outcome.execution).finish
    assert row is not None
    assert row.error is not None
    assert b"BLOB_MISSING" in row.error


@housed
async def test_a_large_output_of_an_execution_goes_to_the_blob_store(house: House) -> None:
    engine = await house.engine()
    large = b'"' + b"z" * 60_000 + b'"'
    await house.executor(lambda task: completed(task, large))
    plan = await house.workflow(make_plan([Task(id="a"), Task(id="b")]))
    outcome = await begin(engine, plan)
    assert await finish(engine, outcome.execution) == ExecutionStatus.COMPLETED
    row = house.record(outcome.execution).finish
    assert row is not None
    assert row.output is None
    assert row.blob is not None
    assert house.blobs.data[row.blob] == b'{"a":' + large + b',"b":' + large + b"}"
    assert row.blob.startswith(f"default/{outcome.execution}/")


@housed
async def test_blobs_that_an_input_refers_to_count_before_anybody_loads_them(house: House) -> None:
    engine = await house.engine()
    executor = await house.executor()
    part = HolePart(blob="default/1/x", blob_bytes=limits.BLOB_BYTES_MAX // 2)
    many = tuple(Hole(f"/{n}", (part,)) for n in range(3))
    rendered = Rendered(b"[null,null,null]", many)
    plan = await house.workflow(make_plan([Task(id="a", render=lambda scope: rendered)]))
    outcome = await begin(engine, plan)
    assert await finish(engine, outcome.execution) == ExecutionStatus.FAILED
    error = house.record(outcome.execution).results[0, -1, 1].error
    assert error is not None
    assert orjson.loads(error)["reason"] == "TOO_LARGE"
    assert not executor.seen


@housed
async def test_a_round_sees_what_the_round_before_put_into_the_blob_store(house: House) -> None:
    engine = await house.engine()
    key = await house.blobs.put("default/1", b'{"cursor":7}')

    def render(scope: Scope) -> Rendered:
        return Rendered(scope.last() or b"null")

    def handle(task: QueuedTask) -> QueuedResult:
        one = result(task, STATUS.COMPLETED)
        one.blob.key = key
        return one

    executor = await house.executor(handle)
    repeat = RepeatPlan(lambda scope, output: scope.iteration < 2, 5, 0)
    plan = await house.workflow(make_plan([Task(id="a", render=render, repeat=repeat)]))
    outcome = await begin(engine, plan)
    assert await finish(engine, outcome.execution) == ExecutionStatus.COMPLETED
    assert [task.input for task in executor.seen] == [b"null", b'{"cursor":7}', b'{"cursor":7}']
