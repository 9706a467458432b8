"""Waits, signals and approvals in the engine: durable, parked when they last, brought back."""

import tracemalloc

import orjson
import pytest

from bend_server.core import machine
from bend_server.core.effects import Effects
from bend_server.core.errors import NotFound, NotPermitted, WrongState
from bend_server.core.model import EventKind, ExecutionStatus, Phase, TaskKind, TaskStatus
from bend_server.core.waits import Wait
from bend_server.ports.engine import Decision
from tests.engine.control import items, own, plan
from tests.engine.house import House, SeededChance, begin, completed, failed, finish, housed, until
from tests.kit.plans import Task, start_row

COMPLETED = ExecutionStatus.COMPLETED


@housed
async def test_a_wait_completes_when_its_time_has_come(house: House) -> None:
    engine = await house.engine()
    await house.executor()
    waits = plan(own("rest", "wait", {"duration": "30s"}), Task(id="then", after=["rest"]))
    await house.workflow(waits)
    before_us = house.clock.now_us()
    started = await begin(engine, waits)
    await until(lambda: house.record(started.execution).events)
    (overlay,) = engine.waiting(started.execution)
    assert overlay.waiting.startswith("timer until 20")
    assert await finish(engine, started.execution) == COMPLETED
    assert 30 <= (house.clock.now_us() - before_us) / 1e6 < 31
    rest = house.record(started.execution).results[0, -1, 1]
    assert (rest.status, rest.output) == (TaskStatus.COMPLETED, b"null")


@housed
async def test_an_item_that_is_undone_says_what_it_waits_for(house: House) -> None:
    engine = await house.engine()
    await house.executor(lambda task: failed(task) if task.task_id == "bad" else completed(task))
    undo = Task(id="undo", phase=Phase.COMPENSATION, undoes="book", component="nobody.serves")
    saga = plan(Task(id="book", for_each=items(1, 2)), Task(id="bad", after=["book"]), undo)
    await house.workflow(saga)
    started = await begin(engine, saga)
    await until(lambda: any(one.waiting for one in engine.waiting(started.execution)))
    (overlay,) = engine.waiting(started.execution)
    assert (overlay.task, overlay.item) == (2, 1), "the last one is undone first"
    assert overlay.waiting == "no instance of nobody.serves"


@housed
async def test_a_long_wait_leaves_memory_and_comes_back(house: House) -> None:
    engine = await house.engine()
    await house.executor()
    waits = plan(
        own("rest", "wait", {"duration": "3h"}), Task(id="then", after=["rest"]), timeout_us=0
    )
    await house.workflow(waits)
    started = await begin(engine, waits)
    await until(lambda: engine.live_count() == 0)
    assert house.record(started.execution).parked is not None
    assert await finish(engine, started.execution, within_s=4 * 3600) == COMPLETED


@housed
async def test_a_wait_until_a_time_that_is_past_is_over_at_once(house: House) -> None:
    engine = await house.engine()
    waits = plan(own("rest", "wait", {"until": "2020-01-01T00:00:00Z"}))
    await house.workflow(waits)
    started = await begin(engine, waits)
    assert await finish(engine, started.execution, within_s=2) == COMPLETED


@pytest.mark.parametrize(
    "body", [{"duration": "soon"}, {"until": "2020-01-01"}, {"until": 5}, {}, [1]]
)
def test_a_wait_for_nonsense_fails_its_task(body: object) -> None:
    @housed
    async def run(house: House) -> None:
        engine = await house.engine()
        waits = plan(own("rest", "wait", body))
        await house.workflow(waits)
        started = await begin(engine, waits)
        assert await finish(engine, started.execution) == ExecutionStatus.FAILED
        error = house.record(started.execution).finish
        assert error is not None
        assert error.error is not None
        assert orjson.loads(error.error)["reason"] == "EXPRESSION_ERROR"

    run()


@housed
async def test_a_signal_wakes_what_left_memory(house: House) -> None:
    engine = await house.engine()
    await house.executor()
    waits = plan(
        own("hear", "signal", {"name": "go"}), Task(id="then", after=["hear"]), timeout_us=0
    )
    await house.workflow(waits)
    started = await begin(engine, waits)
    await until(lambda: engine.live_count() == 0)
    delivered = await engine.signal(
        started.execution, name="go", payload=b'{"n":1}', actor="user/ada", request_id="r1"
    )
    assert delivered
    assert await finish(engine, started.execution) == COMPLETED
    assert house.record(started.execution).results[0, -1, 1].output == b'{"n":1}'


@housed
async def test_a_signal_is_taken_once_per_request_id_and_kept_in_order(house: House) -> None:
    engine = await house.engine()
    waits = plan(
        own("rest", "wait", {"duration": "5s"}),
        own("one", "signal", {"name": "go"}, after=["rest"]),
        own("two", "signal", {"name": "go"}, after=["one"]),
    )
    await house.workflow(waits)
    started = await begin(engine, waits)
    await until(lambda: house.record(started.execution).events)

    async def give(payload: bytes, request_id: str) -> bool:
        return await engine.signal(
            started.execution, name="go", payload=payload, actor="", request_id=request_id
        )

    assert not await give(b"1", "a")
    assert not await give(b"1", "a")
    assert not await give(b"2", "b")
    assert await finish(engine, started.execution) == COMPLETED
    results = house.record(started.execution).results
    assert [results[1, -1, 1].output, results[2, -1, 1].output] == [b"1", b"2"]
    assert not await give(b"1", "a"), "the same answer, long after"
    with pytest.raises(WrongState):
        await give(b"3", "c")


@housed
async def test_a_signal_that_does_not_come_in_time_fails_the_task(house: House) -> None:
    engine = await house.engine()
    waits = plan(own("hear", "signal", {"name": "go", "timeout": "10m"}))
    await house.workflow(waits)
    started = await begin(engine, waits)
    await until(lambda: engine.live_count() == 0)
    assert await finish(engine, started.execution) == ExecutionStatus.FAILED
    row = house.record(started.execution).results[0, -1, 1]
    assert row.status == TaskStatus.TIMED_OUT
    assert b"SIGNAL_TIMEOUT" in (row.error or b"")


@housed
async def test_an_approval_is_listed_and_decided_by_those_it_names(house: House) -> None:
    engine = await house.engine()
    waits = plan(
        own("ask", "approval", {"title": "Ship?", "assignees": ["ada"], "form": {"type": "object"}})
    )
    await house.workflow(waits)
    started = await begin(engine, waits)
    await until(lambda: engine.live_count() == 0)
    (row,) = await house.stores.reads.approvals(
        "default", execution=None, status=1, assignee="ada", after=None, limit=9
    )
    assert (row.title, row.form, row.task_id) == ("Ship?", b'{"type":"object"}', "ask")
    yes = Decision(*row[:4], True, "fine", b'{"a":1}', "user/ada")
    with pytest.raises(NotPermitted):
        await engine.decide_approval(yes._replace(actor="user/eve"))
    with pytest.raises(NotFound):
        await engine.decide_approval(yes._replace(try_=7))
    decided = await engine.decide_approval(yes)
    assert (decided.status, decided.decided_by, decided.comment) == (2, "user/ada", "fine")
    assert await finish(engine, started.execution) == COMPLETED
    assert await engine.decide_approval(yes) == decided
    with pytest.raises(WrongState):
        await engine.decide_approval(yes._replace(approved=False))
    output = orjson.loads(house.record(started.execution).results[0, -1, 1].output or b"")
    assert (output["approved"], output["data"], output["decided_by"]) == (
        True,
        {"a": 1},
        "user/ada",
    )
    kinds = [event.kind for event in house.record(started.execution).events.values()]
    assert kinds == [EventKind.WAITING, EventKind.DECIDED]


@housed
async def test_an_approval_of_a_cancelled_execution_is_closed(house: House) -> None:
    engine = await house.engine()
    waits = plan(own("ask", "approval", {"title": "Ship?"}))
    await house.workflow(waits)
    started = await begin(engine, waits)
    await until(lambda: engine.live_count() == 0)
    await engine.cancel(started.execution, reason="", actor="", request_id="")
    assert await finish(engine, started.execution) == ExecutionStatus.CANCELLED
    row = await house.stores.engine.find_approval(started.execution, 0, -1, 1)
    assert row is not None
    assert row.status == 4


@housed
async def test_waits_survive_a_crash(house: House) -> None:
    first = await house.engine("e1")
    waits = plan(
        own("rest", "wait", {"duration": "60s"}),
        own("hear", "signal", {"name": "go"}),
        own("ask", "approval", {"title": "?"}),
    )
    await house.workflow(waits)
    started = await begin(first, waits)
    await until(lambda: len(house.record(started.execution).events) == 3)
    await house.crash(first)
    second = await house.engine("e2")
    await second.signal(started.execution, name="go", payload=b"1", actor="")
    decision = Decision(started.execution, 2, -1, 1, False, "", b"", "user/ada")
    await second.decide_approval(decision)
    assert await finish(second, started.execution) == COMPLETED
    results = house.record(started.execution).results
    assert sorted(key[0] for key in results) == [0, 1, 2]


def test_what_waits_takes_less_than_two_kilobytes() -> None:
    """Before it parks, a waiting execution costs its state, its start row and a timer."""
    waits = plan(own("rest", "wait", {"duration": "1h"}))
    chance, now_us, count = SeededChance(), 1_800_000_000_000_000, 2000
    wait = Wait(TaskKind.WAIT, due_us=now_us + 1)
    held: list[object] = []
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(count):
        row = start_row(waits, execution=(1 << 50) + number, input_=b'{"n":%d}' % number)
        effects = Effects()
        state = machine.begin(waits, row)
        machine.start(state, now_us, chance, effects)
        assert machine.begin_wait(state, 0, -1, 1, wait, now_us, chance, effects)
        held += (state, effects.timers[-1])
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    print(f"{used / count:.0f} bytes each")
    assert used / count < 1792
    del held
