"""A worker against a driven executor: hello, tasks, results, partial outputs, cancel, drain."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest

from bend import Context, Final, RetryableError, TerminalError, Worker, component
from bend.errors import ContractMismatch, NotPermitted, ProtocolMismatch
from bend.v1 import executor_service_pb2 as pb
from tests.kit.fakes.executor import WAIT_S, Connection, FakeExecutor
from tests.kit.workers import RunningWorker


@component("t.add", version="1.2.3", labels={"zone": "a"})
async def add(left: int, right: int = 1) -> int:
    """Add two numbers."""
    return left + right


@component("t.plain")
def plain(text: str) -> dict[str, str]:
    return {"text": text.upper(), "thread": threading.current_thread().name}


@component("t.stream", long_running=True)
async def streamed(context: Context, count: int) -> AsyncIterator[int | Final[str]]:
    for number in range(count):
        yield number
    context.log("done counting")
    yield Final("end")


@component("t.yields")
def yields(count: int) -> Iterator[int]:
    yield from range(count)


def start(fake: FakeExecutor, *functions: Any, **options: Any) -> tuple[RunningWorker, Connection]:
    """Start a worker and welcome it."""
    worker = RunningWorker(Worker(functions, url=fake.url, **options))
    worker.__enter__()
    connection = fake.connection()
    connection.welcome()
    return worker, connection


def finish(worker: RunningWorker) -> None:
    worker.stop()
    worker.join()


def test_the_hello_carries_contracts_and_credit() -> None:
    with FakeExecutor() as fake:
        worker, connection = start(fake, add, streamed, credit=7)
        hello = connection.hello
        assert hello.protocol_version == 1
        assert hello.credit == 7
        assert hello.sdk.startswith("bend-python/")
        first, second = hello.components
        assert (first.name, first.version, dict(first.labels)) == ("t.add", "1.2.3", {"zone": "a"})
        assert first.description == "Add two numbers."
        assert not first.long_running
        assert second.long_running
        finish(worker)


def test_coroutines_and_plain_functions_answer() -> None:
    with FakeExecutor() as fake:
        worker, connection = start(fake, add, plain)
        connection.task(1, 0, input={"left": 2, "right": 40})
        connection.task(2, 0, input={"left": 2})
        connection.task(3, 1, input={"text": "hey"})
        assert connection.output(1) == 42
        assert connection.output(2) == 3
        answer = connection.output(3)
        assert answer["text"] == "HEY"
        assert answer["thread"].startswith("bend-component")
        finish(worker)


def test_a_batch_is_answered_in_few_messages() -> None:
    """A write per task would be the bottleneck of the whole mesh."""
    with FakeExecutor() as fake:
        worker, connection = start(fake, add)
        tasks = [pb.Task(run_id=n, input=b'{"left":1}') for n in range(1, 129)]
        connection.send(tasks=pb.TaskBatch(tasks=tasks))
        connection.until(lambda: len(connection.results) == 128, "128 results")
        assert len(connection.result_messages) <= 8
        finish(worker)


def test_yields_are_partial_outputs_in_order() -> None:
    with FakeExecutor() as fake:
        worker, connection = start(fake, streamed, yields)
        connection.task(1, 0, input={"count": 3})
        assert connection.output(1) == "end"
        kinds = [(c.run_id, c.index, c.kind, c.data) for c in connection.chunks]
        assert kinds == [
            (1, 0, pb.Chunk.PARTIAL, b"0"),
            (1, 1, pb.Chunk.PARTIAL, b"1"),
            (1, 2, pb.Chunk.PARTIAL, b"2"),
            (1, 3, pb.Chunk.LOG, b'{"level":"info","message":"done counting"}'),
        ]
        assert connection.result(1).chunk_count == 4
        connection.task(2, 1, input={"count": 2})
        assert connection.output(2) == 1
        assert connection.result(2).chunk_count == 2
        finish(worker)


def test_many_partial_outputs_are_bounded_and_complete() -> None:
    """A generator that is faster than the network waits instead of filling the memory."""
    with FakeExecutor() as fake:
        worker, connection = start(fake, streamed, yields)
        connection.task(1, 0, input={"count": 20_000})
        connection.task(2, 1, input={"count": 20_000})
        assert connection.output(1) == "end"
        assert connection.output(2) == 19_999
        for run_id, count in ((1, 20_001), (2, 20_000)):
            numbers = [c.index for c in connection.chunks if c.run_id == run_id]
            assert numbers == list(range(count))
        finish(worker)


@component("t.fails")
async def fails(how: str) -> None:
    if how == "retry":
        raise RetryableError("RATE_LIMITED", "slow down", retry_after=2.5, details={"left": 0})
    if how == "terminal":
        raise TerminalError("NO_SUCH_CUSTOMER", "number 7")
    raise ConnectionResetError("peer went away")


def test_exceptions_become_failures() -> None:
    with FakeExecutor() as fake:
        worker, connection = start(fake, fails, add)
        for run_id, how in ((1, "retry"), (2, "terminal"), (3, "other")):
            connection.task(run_id, 0, input={"how": how})
        connection.task(4, 1, input={"left": "x"})
        failures = [connection.result(n).failure for n in (1, 2, 3, 4)]
        assert [(f.reason, f.retryable) for f in failures] == [
            ("RATE_LIMITED", True),
            ("NO_SUCH_CUSTOMER", False),
            ("CONNECTION_RESET_ERROR", True),
            ("INVALID_INPUT", False),
        ]
        assert failures[0].retry_after.ToTimedelta().total_seconds() == 2.5
        assert failures[0].details == b'{"left":0}'
        assert failures[2].message == "peer went away"
        assert failures[3].message == "left: must be an integer, is text"
        finish(worker)


def test_an_output_over_the_limit_is_refused_by_the_worker() -> None:
    @component("t.big")
    async def big() -> str:
        return "x" * 70_000

    with FakeExecutor() as fake:
        worker, connection = start(fake, big)
        connection.task(1)
        failure = connection.result(1).failure
        assert (failure.reason, failure.retryable) == ("TOO_LARGE", False)
        assert "70002" in failure.message
        assert "65536" in failure.message
        finish(worker)


def test_an_output_near_the_limit_warns_those_who_watch() -> None:
    @component("t.growing")
    async def growing() -> str:
        return "x" * 60_000

    with FakeExecutor() as fake:
        worker, connection = start(fake, growing)
        connection.task(1)
        assert len(connection.output(1)) == 60_000
        [warning] = [c.data for c in connection.chunks]
        assert b'"level":"warning"' in warning
        assert b"60002 bytes; over 65536" in warning
        assert connection.result(1).chunk_count == 1
        finish(worker)


def test_a_cancelled_coroutine_stops_and_a_plain_function_is_told() -> None:
    began = threading.Semaphore(0)
    seen: list[bool] = []

    @component("t.sleeps")
    async def sleeps() -> None:
        began.release()
        await asyncio.Event().wait()

    @component("t.spins")
    def spins(context: Context) -> str:
        began.release()
        deadline = time.monotonic() + WAIT_S
        while not context.cancelled and time.monotonic() < deadline:
            time.sleep(0.005)
        seen.append(context.cancelled)
        return "too late"

    with FakeExecutor() as fake:
        worker, connection = start(fake, sleeps, spins)
        connection.task(1, 0)
        connection.task(2, 1)
        assert began.acquire(timeout=WAIT_S)
        assert began.acquire(timeout=WAIT_S)
        connection.send(cancels=pb.CancelBatch(run_ids=[1, 2, 99], grace_ms=10_000))
        assert connection.result(1).WhichOneof("outcome") == "cancelled"
        assert connection.result(2).WhichOneof("outcome") == "cancelled"
        assert seen == [True]
        finish(worker)


def test_a_blocked_loop_keeps_its_heartbeats() -> None:
    """An author who blocks the loop must not look like a dead worker."""
    released = threading.Event()

    @component("t.blocks")
    async def blocks() -> str:
        released.wait(WAIT_S)  # the point of the test
        return "awake"

    with FakeExecutor() as fake:
        worker = RunningWorker(Worker([blocks], url=fake.url))
        with worker:
            connection = fake.connection()
            connection.welcome(interval_ms=150)
            connection.task(1)
            count = len(connection.heartbeats)
            connection.until(lambda: len(connection.heartbeats) >= count + 5, "heartbeats")
            assert 1 not in connection.results
            released.set()
            assert connection.output(1) == "awake"


def test_progress_is_named_in_heartbeats() -> None:
    @component("t.progress", heartbeats=True)
    async def progress(context: Context) -> None:
        while not context.cancelled:
            context.heartbeat()
            await asyncio.sleep(0.01)

    with FakeExecutor() as fake:
        worker, connection = start(fake, progress)
        assert connection.hello.components[0].heartbeats
        connection.task(5, heartbeat_timeout_ms=300)
        connection.until(lambda: 5 in connection.progress, "progress of 5")
        connection.send(cancels=pb.CancelBatch(run_ids=[5]))
        connection.result(5)
        finish(worker)


def test_a_drain_finishes_what_is_held() -> None:
    gate = threading.Event()
    began = threading.Semaphore(0)

    @component("t.gate")
    async def gated() -> str:
        began.release()
        await asyncio.to_thread(gate.wait, 10)
        return "finished"

    with FakeExecutor() as fake:
        worker, connection = start(fake, gated)
        connection.task(1)
        connection.task(2)
        assert began.acquire(timeout=WAIT_S)
        assert began.acquire(timeout=WAIT_S)
        worker.stop()
        connection.until(lambda: connection.drained, "the drain")
        assert not connection.results
        gate.set()
        worker.join()
        assert connection.output(1) == connection.output(2) == "finished"
        connection.until(lambda: connection.half_closed, "the end of the stream")


@pytest.mark.parametrize("plainly", [True, False])
def test_what_components_hold_is_closed_once_after_the_last_task(plainly: bool) -> None:
    events: list[str] = []

    @component("t.slow")
    async def slow() -> None:
        events.append("began")
        await asyncio.to_thread(gate.wait, 10)
        events.append("ended")

    def close() -> None:
        events.append("closed")

    async def close_later() -> None:
        await asyncio.sleep(0)
        events.append("closed")

    gate = threading.Event()
    with FakeExecutor() as fake:
        worker, connection = start(fake, slow, on_stop=close if plainly else close_later)
        connection.task(1)
        connection.until(lambda: bool(events), "the task began")
        worker.stop()
        connection.until(lambda: connection.drained, "the drain")
        gate.set()
        worker.join()
    assert events == ["began", "ended", "closed"]


@pytest.mark.parametrize("hangs", [True, False])
def test_a_clean_up_that_hangs_or_fails_does_not_keep_the_worker(
    hangs: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("bend.worker.ON_STOP_S", 0.1)
    gate = threading.Event()

    def close() -> None:
        if hangs:
            gate.wait(WAIT_S)
        else:
            raise RuntimeError("it is broken")

    with FakeExecutor() as fake:
        worker, _connection = start(fake, plain, on_stop=close)
        finish(worker)
    gate.set()
    assert ("on_stop did not end" if hangs else "it is broken") in caplog.text


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (grpc.StatusCode.PERMISSION_DENIED, NotPermitted),
    ],
)
def test_a_refused_identity_ends_the_worker(code: grpc.StatusCode, error: type[Exception]) -> None:
    with FakeExecutor() as fake:
        fake.refusals.append((code, "not you"))
        worker = RunningWorker(Worker([add], url=fake.url))
        with pytest.raises(error, match="not you"):
            worker.__enter__().join()


@pytest.mark.parametrize(
    ("reason", "error"),
    [("PROTOCOL_MISMATCH", ProtocolMismatch), ("CONTRACT_MISMATCH", ContractMismatch)],
)
def test_a_mismatch_is_a_named_error(reason: str, error: type[Exception]) -> None:
    from google.protobuf.any_pb2 import Any as AnyMessage
    from google.rpc import error_details_pb2, status_pb2

    detail = AnyMessage()
    detail.Pack(error_details_pb2.ErrorInfo(reason=reason, domain="bend.v1", metadata={"got": "1"}))
    status = status_pb2.Status(code=9, message="does not fit", details=[detail])

    class Refusing(FakeExecutor):
        def Connect(self, requests: Any, context: Any) -> Any:  # noqa: N802
            next(requests)
            context.set_trailing_metadata(
                (("grpc-status-details-bin", status.SerializeToString()),)
            )
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "does not fit")

    with Refusing() as fake:
        worker = RunningWorker(Worker([add], url=fake.url))
        with pytest.raises(error, match="does not fit") as caught:
            worker.__enter__().join()
        assert caught.value.metadata == {"got": "1"}  # type: ignore[attr-defined]


def test_the_token_goes_with_the_stream() -> None:
    with FakeExecutor() as fake:
        worker, _ = start(fake, add, token="secret")
        assert fake.metadata[0]["authorization"] == "Bearer secret"
        finish(worker)
