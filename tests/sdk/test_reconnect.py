"""Broken streams: short tasks are given up, long ones are held, claimed and go on."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest

from bend import Context, Worker, component
from bend.v1 import executor_service_pb2 as pb
from bend.worker import BACKOFF_S_MAX, BACKOFF_S_SOON, SOON_S
from tests.kit.fakes.executor import WAIT_S, Connection, FakeExecutor
from tests.kit.waiting import wait_until
from tests.kit.workers import RunningWorker


class Gate:
    """Holds components until the test lets them go, and counts how they ended."""

    def __init__(self) -> None:
        self.began = threading.Semaphore(0)
        self.cancelled = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._open = False
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def passing(self) -> None:
        event = asyncio.Event()
        with self._lock:
            self._waiting.append((asyncio.get_running_loop(), event))
            if self._open:
                event.set()
        self.began.release()
        try:
            await event.wait()
        except asyncio.CancelledError:
            self.cancelled.release()
            raise

    def open(self) -> None:
        with self._lock:
            self._open = True
            for loop, event in self._waiting:
                loop.call_soon_threadsafe(event.set)


@pytest.fixture
def gate() -> Gate:
    return Gate()


def served(gate: Gate) -> list[Callable[..., Any]]:
    @component("t.short")
    async def short() -> str:
        await gate.passing()
        return "short"

    @component("t.long", long_running=True)
    async def long(context: Context) -> AsyncIterator[str]:
        yield "before"
        await gate.passing()
        yield "after"

    return [short, long]


def connected(fake: FakeExecutor, *, kept: tuple[int, ...] = ()) -> Connection:
    connection = fake.connection()
    connection.welcome(kept=kept)
    return connection


def test_it_connects_again_after_a_break(gate: Gate) -> None:
    with FakeExecutor() as fake, RunningWorker(Worker(served(gate), url=fake.url)):
        first = connected(fake)
        first.break_off()
        second = connected(fake)
        assert second.hello.instance_id == first.hello.instance_id
        assert not second.hello.held
        gate.open()
        second.task(1)
        assert second.output(1) == "short"


def test_it_tries_for_ever_while_nobody_answers(gate: Gate) -> None:
    with FakeExecutor() as fake:
        fake.refusals += [(grpc.StatusCode.UNAVAILABLE, "not yet")] * 4
        with RunningWorker(Worker(served(gate), url=fake.url)):
            connected(fake)
            assert len(fake.metadata) == 5


def test_a_permission_lost_later_is_tried_again(gate: Gate) -> None:
    """A certificate in renewal must not end a worker that has served for weeks."""
    with FakeExecutor() as fake, RunningWorker(Worker(served(gate), url=fake.url)):
        first = connected(fake)
        fake.refusals.append((grpc.StatusCode.PERMISSION_DENIED, "expired"))
        gate.open()
        first.task(1)
        first.output(1)
        first.break_off()
        connected(fake)


def test_short_tasks_of_a_broken_stream_are_given_up(gate: Gate) -> None:
    """The executor has handed them to another instance: a late result would be noise."""
    with FakeExecutor() as fake, RunningWorker(Worker(served(gate), url=fake.url)):
        first = connected(fake)
        first.task(1)
        assert gate.began.acquire(timeout=WAIT_S)
        first.break_off()
        assert gate.cancelled.acquire(timeout=WAIT_S)
        second = connected(fake)
        assert not second.hello.held
        gate.open()
        second.task(2)
        assert second.output(2) == "short"
        assert set(second.results) == {2}


def test_a_held_task_goes_on_over_the_next_stream(gate: Gate) -> None:
    with FakeExecutor() as fake, RunningWorker(Worker(served(gate), url=fake.url)):
        first = connected(fake)
        first.task(7, 1, token=b"sealed")
        assert gate.began.acquire(timeout=WAIT_S)
        first.until(lambda: len(first.chunks) == 1, "the first partial output")
        first.break_off()
        second = fake.connection()
        assert [(one.run_id, one.resume_token) for one in second.hello.held] == [(7, b"sealed")]
        second.welcome(kept=(7,))
        gate.open()
        assert second.output(7) == "after"
        assert [(one.index, one.data) for one in second.chunks] == [(1, b'"after"')]
        assert second.result(7).chunk_count == 2


def test_a_result_made_while_disconnected_is_sent_later(gate: Gate) -> None:
    with FakeExecutor() as fake, RunningWorker(Worker(served(gate), url=fake.url)):
        first = connected(fake)
        first.task(7, 1, token=b"sealed")
        assert gate.began.acquire(timeout=WAIT_S)
        first.break_off()
        second = fake.connection()
        # It ends between the hello that claims it and the welcome that keeps it.
        gate.open()
        second.welcome(kept=(7,))
        assert second.output(7) == "after"
        assert [one.data for one in second.chunks] == [b'"after"']


def test_a_result_lost_with_its_stream_is_sent_again(gate: Gate) -> None:
    """The worker cannot know whether the last results arrived: it claims those tasks too."""
    gate.open()
    with FakeExecutor() as fake, RunningWorker(Worker(served(gate), url=fake.url)):
        first = connected(fake)
        first.task(7, 1, token=b"sealed")
        assert first.output(7) == "after"
        first.break_off()
        second = fake.connection()
        assert [one.run_id for one in second.hello.held] == [7]
        second.welcome(kept=(7,))
        assert second.output(7) == "after"


def test_a_held_task_that_is_not_kept_is_dropped(gate: Gate) -> None:
    with FakeExecutor() as fake, RunningWorker(Worker(served(gate), url=fake.url)):
        first = connected(fake)
        first.task(7, 1, token=b"sealed")
        assert gate.began.acquire(timeout=WAIT_S)
        first.break_off()
        second = connected(fake)
        assert gate.cancelled.acquire(timeout=WAIT_S)
        gate.open()
        second.task(8)
        assert second.output(8) == "short"
        assert set(second.results) == {8}


def test_go_away_moves_new_work_and_finishes_old(gate: Gate) -> None:
    with FakeExecutor() as fake, RunningWorker(Worker(served(gate), url=fake.url)):
        first = connected(fake)
        first.task(1)
        assert gate.began.acquire(timeout=WAIT_S)
        first.send(go_away=pb.GoAway(reason="deploy", grace_ms=10_000))
        second = connected(fake)
        assert not second.hello.held
        assert not first.half_closed
        gate.open()
        second.task(2)
        assert second.output(2) == "short"
        assert first.output(1) == "short"
        first.until(lambda: first.half_closed, "the end of the old stream")


def test_what_a_left_executor_still_held_is_claimed_elsewhere(gate: Gate) -> None:
    """The executor leaves before a long task has ended: only a hello can claim it."""
    with FakeExecutor() as fake, RunningWorker(Worker(served(gate), url=fake.url)):
        first = connected(fake)
        first.task(7, 1, token=b"sealed")
        assert gate.began.acquire(timeout=WAIT_S)
        first.send(go_away=pb.GoAway(reason="deploy"))
        second = connected(fake)
        first.break_off()
        third = fake.connection()
        assert [one.run_id for one in third.hello.held] == [7]
        third.welcome(kept=(7,))
        gate.open()
        assert third.output(7) == "after"
        second.until(lambda: second.drained and second.half_closed, "the second one's end")


def test_a_drain_without_a_connection_ends(gate: Gate) -> None:
    worker = RunningWorker(Worker(served(gate), url="http://127.0.0.1:9"))
    worker.__enter__()
    worker.stop()
    worker.join()


def test_a_worker_that_waits_for_its_next_try_stops_at_once(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wish to stop, which ended that wait, must not be waited for once more."""
    monkeypatch.setattr("bend.worker.random.uniform", lambda _least, _most: 3600.0)
    worker = Worker(served(gate), url="http://127.0.0.1:9")
    running = RunningWorker(worker)
    running.__enter__()
    wait_until(
        lambda: worker._attempts == 1 and not worker._open and not worker._wake.is_set(),
        "the wait for the second try",
        WAIT_S,
    )
    running.stop()
    running.join()


def test_a_task_that_outlives_the_drain_is_left_behind(gate: Gate) -> None:
    with FakeExecutor() as fake:
        worker = RunningWorker(Worker(served(gate), url=fake.url, drain_timeout=0.2))
        worker.__enter__()
        first = connected(fake)
        first.task(1)
        assert gate.began.acquire(timeout=WAIT_S)
        worker.stop()
        worker.join()
        assert gate.cancelled.acquire(timeout=WAIT_S)
        assert not first.results


def test_waits_stay_short_while_a_gateway_is_started_again() -> None:
    """A killed gateway is back in a second; only who is away for longer is asked ever less."""

    async def scenario() -> None:
        worker = Worker(served(Gate()))
        worker._attempts = 1
        assert worker._ceiling_max() == BACKOFF_S_SOON
        worker._attempts = 50
        assert worker._ceiling_max() == BACKOFF_S_SOON
        worker._away_since -= SOON_S
        assert worker._ceiling_max() == BACKOFF_S_MAX

    asyncio.run(scenario())


def test_an_old_connection_is_replaced_before_it_is_drained(gate: Gate) -> None:
    with FakeExecutor() as fake:
        worker = Worker(served(gate), url=fake.url, stream_age=0.3)
        with RunningWorker(worker):
            first = connected(fake)
            assert not first.hello.rotates
            first.task(1)
            gate.began.acquire(timeout=WAIT_S)
            second = fake.connection()
            assert second.hello.rotates
            assert second.hello.instance_id == first.hello.instance_id
            assert not first.drained
            worker.stream_age = 3600.0
            second.welcome()
            first.until(lambda: first.drained, "a drain")
            second.task(2)
            gate.began.acquire(timeout=WAIT_S)
            gate.open()
            assert first.output(1) == "short"
            assert second.output(2) == "short"
            first.until(lambda: first.half_closed, "an end")


def test_long_tasks_leave_an_old_connection_without_a_second_run(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a task of days would keep a connection for days."""
    monkeypatch.setattr("bend.worker.ROTATION_S", 0.5)
    with FakeExecutor() as fake:
        worker = Worker(served(gate), url=fake.url, stream_age=0.2)
        with RunningWorker(worker):
            first = connected(fake)
            first.task(7, component=1, token=b"sealed")
            gate.began.acquire(timeout=WAIT_S)
            second = fake.connection()
            worker.stream_age = 3600.0
            second.welcome()
            third = fake.connection()
            assert [held.run_id for held in third.hello.held] == [7]
            assert third.hello.rotates
            third.welcome(kept=(7,))
            gate.open()
            assert third.output(7) == "after"
            assert not gate.began.acquire(blocking=False)
