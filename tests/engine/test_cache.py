"""The cache: equal inputs are answered without a worker, across executions, once at a time."""

import orjson

from bend_server.core.model import ExecutionStatus, TaskStatus
from bend_server.core.plan import CachePlan, Hole, HolePart, Plan, Rendered, Scope
from bend_server.engine.cache import Cache
from tests.engine.control import plan
from tests.engine.house import (
    STATUS,
    House,
    begin,
    completed,
    failed,
    finish,
    housed,
    result,
    until,
)
from tests.kit.plans import Task

COMPLETED = ExecutionStatus.COMPLETED
HOUR_US = 3_600_000_000


def of_input(scope: Scope) -> Rendered:
    return Rendered(scope.input)


def cached(workflow: str = "w", **fields: object) -> Plan:
    """Return a workflow of one cached task that takes the whole input."""
    cache = CachePlan(HOUR_US, None, False)
    values: dict[str, object] = {"cache": cache, "render": of_input, **fields}
    return plan(Task(id="a", **values), workflow=workflow)  # type: ignore[arg-type]


def worker(house: House, execution: int) -> str:
    return house.record(execution).results[0, -1, 1].worker


@housed
async def test_an_equal_input_is_answered_from_the_cache(house: House) -> None:
    engine = await house.engine()
    executor = await house.executor(lambda task: completed(task, b'{"n":1}'))
    plan_ = await house.workflow(cached())
    first = await begin(engine, plan_, input=b'{"b":2,"a":{"d":1,"c":0}}')
    assert await finish(engine, first.execution) == COMPLETED
    second = await begin(engine, plan_, input=b'{"a":{"c":0,"d":1}, "b":2}')
    assert await finish(engine, second.execution) == COMPLETED
    other = await begin(engine, plan_, input=b'{"a":{"c":0,"d":1},"b":3}')
    assert await finish(engine, other.execution) == COMPLETED
    assert len(executor.seen) == 2
    assert [worker(house, one.execution) for one in (first, second, other)] == ["w1", "cache", "w1"]
    assert house.record(second.execution).results[0, -1, 1].output == b'{"n":1}'
    (row,) = [row for row in house.database.control.caches.values() if row.execution == first[0]]
    assert row.output == b'{"n":1}'


@housed
async def test_the_cache_outlives_the_engine_and_expires(house: House) -> None:
    first = await house.engine("e1")
    executor = await house.executor()
    plan_ = await house.workflow(cached())
    assert await finish(first, (await begin(first, plan_)).execution) == COMPLETED
    await house.crash(first)
    second = await house.engine("e2")
    assert await finish(second, (await begin(second, plan_)).execution) == COMPLETED
    assert len(executor.seen) == 1
    assert second.counters["cache_look_ups"] == 1
    await house.pause(3601)
    assert await finish(second, (await begin(second, plan_)).execution) == COMPLETED
    assert len(executor.seen) == 2


@housed
async def test_equal_tries_run_once_and_new_keys_are_asked_for_together(house: House) -> None:
    engine = await house.engine()
    executor = await house.executor(lambda task: None)
    plan_ = await house.workflow(cached())
    inputs = [orjson.dumps({"n": n % 3}) for n in range(30)]
    started = [(await begin(engine, plan_, input=data)).execution for data in inputs]
    await until(lambda: len(executor.seen) == 3)
    assert engine.counters["cache_look_ups"] <= 3
    await house.publish_results(executor, [completed(task) for task in executor.seen])
    for one in started:
        assert await finish(engine, one) == COMPLETED
    assert len({task.execution for task in executor.seen}) == 3
    assert engine.counters["cache_hits"] == 27


@housed
async def test_when_the_first_fails_the_next_one_runs(house: House) -> None:
    engine = await house.engine()
    executor = await house.executor(lambda task: None)
    plan_ = await house.workflow(cached())
    ids = [(await begin(engine, plan_)).execution for _ in range(3)]
    await until(lambda: len(executor.seen) == 1)
    await house.publish_results(executor, [failed(executor.seen[0])])
    await until(lambda: len({task.execution for task in executor.seen}) == 2)
    await house.publish_results(executor, [completed(executor.seen[-1])])
    assert [await finish(engine, one) for one in ids] == [
        ExecutionStatus.FAILED,
        COMPLETED,
        COMPLETED,
    ]


@housed
async def test_when_the_first_is_paused_or_cancelled_the_next_one_runs(house: House) -> None:
    engine = await house.engine()
    executor = await house.executor(lambda task: None)
    plan_ = await house.workflow(cached())
    ids = [(await begin(engine, plan_)).execution for _ in range(3)]
    await until(lambda: len(executor.seen) == 1)
    await engine.pause(ids[0], reason="", actor="")
    await until(lambda: {task.execution for task in executor.seen} >= set(ids[:2]))
    await engine.cancel(ids[1], reason="", actor="", request_id="")
    await until(lambda: {task.execution for task in executor.seen} == set(ids))
    executor.handle = completed
    await engine.resume(ids[0], actor="")
    assert await finish(engine, ids[2]) == COMPLETED
    assert await finish(engine, ids[0]) == COMPLETED


@housed
async def test_the_scope_is_the_workflow_unless_it_is_the_namespace(house: House) -> None:
    engine = await house.engine()
    executor = await house.executor()
    wide = CachePlan(HOUR_US, None, True)
    plans = [cached("one"), cached("two"), cached("three", cache=wide), cached("four", cache=wide)]
    for one in plans:
        await house.workflow(one)
        assert await finish(engine, (await begin(engine, one)).execution) == COMPLETED
    assert len(executor.seen) == 3


@housed
async def test_a_key_of_ones_own_stands_for_the_input(house: House) -> None:
    engine = await house.engine()
    executor = await house.executor()
    keyed = CachePlan(HOUR_US, lambda scope: str(orjson.loads(scope.input)["key"]), False)
    plan_ = await house.workflow(cached(cache=keyed))
    for data in (b'{"key":1,"n":1}', b'{"key":1,"n":2}', b'{"key":2,"n":1}'):
        assert await finish(engine, (await begin(engine, plan_, input=data)).execution) == COMPLETED
    assert len(executor.seen) == 2
    failing = await begin(engine, plan_, input=b"{}")
    assert await finish(engine, failing.execution) == ExecutionStatus.FAILED


@housed
async def test_secrets_count_by_name_and_blobs_by_content(house: House) -> None:
    def with_hole(part: HolePart) -> Rendered:
        return Rendered(b'{"x":null}', (Hole("/x", (part,)),))

    renders = [
        with_hole(HolePart(secret="a")),
        with_hole(HolePart(secret="a")),
        with_hole(HolePart(secret="b")),
        with_hole(HolePart(blob="default/1/abc")),
        with_hole(HolePart(blob="default/2/abc")),
        with_hole(HolePart(blob="default/2/def")),
        Rendered(b'{"x":null}'),
    ]
    engine = await house.engine()
    executor = await house.executor()
    plan_ = await house.workflow(
        cached(render=lambda scope: renders[orjson.loads(scope.input)["n"]])
    )
    for n in range(len(renders)):
        data = orjson.dumps({"n": n})
        assert await finish(engine, (await begin(engine, plan_, input=data)).execution) == COMPLETED
    assert len(executor.seen) == 5


@housed
async def test_a_large_output_is_copied_for_the_cache_and_for_each_hit(house: House) -> None:
    engine = await house.engine()
    blob = await house.blobs.put("default/1", b'"large"')

    def large(task: object) -> object:
        reply = result(task, STATUS.COMPLETED)  # type: ignore[arg-type]
        reply.blob.key = blob
        return reply

    executor = await house.executor(large)  # type: ignore[arg-type]
    plan_ = await house.workflow(cached())
    first = await begin(engine, plan_)
    assert await finish(engine, first.execution) == COMPLETED
    await until(lambda: bool(house.database.control.caches))
    (entry,) = house.database.control.caches.values()
    assert entry.blob is not None
    assert entry.blob.startswith("default/cache-")
    second = await begin(engine, plan_)
    assert await finish(engine, second.execution) == COMPLETED
    own = house.record(second.execution).results[0, -1, 1].blob
    assert own is not None
    assert own.startswith(f"default/{second.execution}/")
    assert len(executor.seen) == 1
    await house.pause(3601)
    assert await engine.retention.forget() == 0
    assert not house.database.control.caches
    assert entry.blob not in house.blobs.data
    assert own in house.blobs.data


@housed
async def test_an_entry_whose_blob_is_gone_lets_the_task_run(house: House) -> None:
    engine = await house.engine()
    blob = await house.blobs.put("default/1", b'"large"')

    def large(task: object) -> object:
        reply = result(task, STATUS.COMPLETED)  # type: ignore[arg-type]
        reply.blob.key = blob
        return reply

    executor = await house.executor(large)  # type: ignore[arg-type]
    plan_ = await house.workflow(cached())
    assert await finish(engine, (await begin(engine, plan_)).execution) == COMPLETED
    await until(lambda: bool(house.database.control.caches))
    await house.blobs.delete_prefix("default/cache-")
    second = await begin(engine, plan_)
    assert await finish(engine, second.execution) == COMPLETED
    assert len(executor.seen) == 2


@housed
async def test_a_failure_is_not_cached_and_a_retry_is(house: House) -> None:
    engine = await house.engine()
    executor = await house.executor(failed)
    plan_ = await house.workflow(cached())
    one = await begin(engine, plan_)
    assert await finish(engine, one.execution) == ExecutionStatus.FAILED
    assert not house.database.control.caches
    executor.handle = completed
    await engine.retry(one.execution, reason="", actor="")
    assert await finish(engine, one.execution) == COMPLETED
    two = await begin(engine, plan_)
    assert await finish(engine, two.execution) == COMPLETED
    assert len(executor.seen) == 2
    assert house.record(two.execution).results[0, -1, 1].status == TaskStatus.COMPLETED


@housed
async def test_the_memory_of_the_cache_is_bounded(house: House) -> None:
    engine = await house.engine()
    cache = engine._parts.cache
    assert isinstance(cache, Cache)
    cache._bytes_max = 3000
    executor = await house.executor(lambda task: completed(task, b'"%s"' % (b"x" * 600)))
    plan_ = await house.workflow(cached())
    for n in range(6):
        data = orjson.dumps({"n": n})
        assert await finish(engine, (await begin(engine, plan_, input=data)).execution) == COMPLETED
    assert len(cache._recent) == 2
    assert cache._bytes <= 3000
    again = await begin(engine, plan_, input=b'{"n":0}')
    assert await finish(engine, again.execution) == COMPLETED
    assert len(executor.seen) == 6
