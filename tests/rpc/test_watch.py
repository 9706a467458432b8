"""If these fail, a watcher misses an event, sees one twice, or waits for ever."""

import asyncio
import contextlib
import re

import grpc
import orjson
import pytest

from bend.internal.v1 import frames_pb2
from bend.v1 import engine_service_pb2 as pb
from bend.v1 import execution_pb2
from bend_server.core.model import EventKind, ExecutionStatus, Failure, TaskStatus
from bend_server.ports.engine import TaskOverlay
from bend_server.rpc import execution_watch
from tests.kit.certificates import TestAuthority
from tests.kit.loops import eventually, in_loop
from tests.rpc.engine_room import REST, USER, EngineRoom, engine_room
from tests.rpc.test_workflows import refused

Type = execution_pb2.WatchEvent


class Seen:
    """Collects the events of one watch."""

    def __init__(self, it: EngineRoom, **fields: object) -> None:
        self.events: list[execution_pb2.WatchEvent] = []
        request = pb.WatchExecutionRequest(**fields)
        self._call = it.stub.WatchExecution(request, metadata=USER, timeout=30)
        self.done = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for answer in self._call:
            self.events.append(answer.event)

    def words(self) -> list[str]:
        return [
            f"{Type.Type.Name(event.type)} {event.task} {event.status}".replace("  ", " ").strip()
            for event in self.events
        ]

    async def until(self, count: int) -> None:
        await eventually(lambda: len(self.events) >= count)

    async def stop(self) -> None:
        self._call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.done


async def watching(it: EngineRoom, public: str, internal: int) -> Seen:
    """Begin a watch; return once it has shown the start, and the engine knows of it."""
    seen = Seen(it, execution_id=public)
    await seen.until(1)
    await eventually(lambda: it.engine.watchers(internal) == 1)
    return seen


def frame(internal: int, *chunks: tuple[int, bytes], run_id: int = 77) -> bytes:
    message = frames_pb2.ChunkFrame()
    for index, data in chunks:
        message.chunks.add(
            execution=internal, task=0, run_id=run_id, index=index, kind=1, data=data,
            attempt=1, time_us=1_700_000_000_000_000,
        )  # fmt: skip
    return message.SerializeToString()


async def publish(it: EngineRoom, internal: int, *chunks: tuple[int, bytes], **more: int) -> None:
    await it.queue.publish(f"chunks.{it.engine.partition}", frame(internal, *chunks, **more))


@in_loop
async def test_every_change_comes_in_order_and_the_last_is_terminal(
    authority: TestAuthority,
) -> None:
    async with engine_room(authority) as it:
        public, internal = await it.started()
        seen = await watching(it, public, internal)
        running = TaskOverlay(0, -1, TaskStatus.RUNNING, 1, 1, "w", 1, "")
        await it.engine.say(internal, [running])
        await seen.until(2)
        await it.engine.say(internal, [running])
        failure = Failure("X", retryable=True).to_json()
        retry_at_us = it.clock.now_us()
        await it.engine.result(
            internal, 0, status=int(TaskStatus.FAILED), output=None, error=failure,
            retry_at_us=retry_at_us,
        )  # fmt: skip
        await it.engine.result(internal, 0, try_=2, attempt=2)
        await it.engine.event(internal, EventKind.CANCEL_REQUESTED, actor="/user/ada")
        await it.engine.result(internal, 1)
        await it.engine.finish(internal)
        await seen.done
        assert seen.words() == [
            "EXECUTION RUNNING",
            "TASK first RUNNING",
            "TASK first WAITING",
            "TASK first COMPLETED",
            "EXECUTION RUNNING",
            "TASK second COMPLETED",
            "EXECUTION COMPLETED",
        ]
        assert [event.terminal for event in seen.events] == [False] * 6 + [True]
        assert seen.events[-1].data == b'{"answer":42}'
        assert seen.events[3].data == b'{"ok":true}'
        assert orjson.loads(seen.events[4].data)["event"] == "CANCEL_REQUESTED"
        await eventually(lambda: it.engine.watchers(internal) == 0)


@in_loop
async def test_a_wait_comes_after_the_rows_and_only_the_newest_state_counts(
    authority: TestAuthority,
) -> None:
    async with engine_room(authority) as it:
        public, internal = await it.started()
        seen = await watching(it, public, internal)
        waits = TaskOverlay(1, -1, TaskStatus.WAITING, 1, 1, "", 0, "timer")
        backoff = TaskOverlay(0, -1, TaskStatus.WAITING, 1, 1, "", 0, "retry at noon")
        again = TaskOverlay(0, -1, TaskStatus.RUNNING, 2, 2, "w", 1, "")
        await it.engine.say(internal, [waits, backoff, again])
        await seen.until(3)
        await it.engine.result(internal, 0, try_=2, attempt=2)
        await it.engine.result(internal, 1)
        await it.engine.finish(internal)
        await seen.done
        assert seen.words() == [
            "EXECUTION RUNNING",
            "TASK first RUNNING",
            "TASK second WAITING",
            "TASK first COMPLETED",
            "TASK second COMPLETED",
            "EXECUTION COMPLETED",
        ]


@in_loop
async def test_a_state_stands_between_the_rows_that_led_to_it_and_its_own(
    authority: TestAuthority,
) -> None:
    async with engine_room(authority) as it:
        public, internal = await it.started()
        seen = await watching(it, public, internal)
        failure = Failure("X", retryable=True).to_json()
        failed = await it.engine.result(
            internal, 0, status=int(TaskStatus.FAILED), output=None, error=failure,
            retry_at_us=it.clock.now_us(),
        )  # fmt: skip
        await seen.until(2)
        # Memory runs ahead: the row with the seq after the next one is not committed yet.
        ahead = TaskOverlay(1, -1, TaskStatus.WAITING, 1, 1, "", 0, "no instance", failed.seq + 2)
        stale = TaskOverlay(0, -1, TaskStatus.RUNNING, 1, 1, "w", 1, "")
        again = TaskOverlay(0, -1, TaskStatus.RUNNING, 2, 2, "w", 1, "")
        await it.engine.say(internal, [ahead, stale, again])
        await seen.until(3)
        await it.engine.result(internal, 0, try_=2, attempt=2)
        await seen.until(4)
        await it.engine.event(internal, EventKind.SIGNALLED)
        await seen.until(6)
        await it.engine.result(internal, 1)
        await it.engine.finish(internal)
        await seen.done
        assert seen.words() == [
            "EXECUTION RUNNING",
            "TASK first WAITING",
            "TASK first RUNNING",
            "TASK first COMPLETED",
            "EXECUTION RUNNING",
            "TASK second WAITING",
            "TASK second COMPLETED",
            "EXECUTION COMPLETED",
        ]


@in_loop
async def test_what_a_result_began_comes_after_it_and_every_event_has_its_time(
    authority: TestAuthority,
) -> None:
    async with engine_room(authority) as it:
        public, internal = await it.started()
        seen = await watching(it, public, internal)
        scheduled = TaskOverlay(1, -1, TaskStatus.SCHEDULED, 1, 1, "", 0, "")
        await it.engine.result(internal, 0, changed=[scheduled])
        await seen.until(3)
        await it.engine.result(internal, 1)
        await it.engine.finish(internal)
        await seen.done
        assert seen.words() == [
            "EXECUTION RUNNING",
            "TASK first COMPLETED",
            "TASK second SCHEDULED",
            "TASK second COMPLETED",
            "EXECUTION COMPLETED",
        ]
        assert all(event.time.seconds for event in seen.events)


@in_loop
async def test_a_cursor_resumes_without_loss_or_repeat(authority: TestAuthority) -> None:
    async with engine_room(authority) as it:
        public, internal = await it.started()
        await it.engine.result(internal, 0)
        await it.engine.result(internal, 1)
        await it.engine.finish(internal)
        whole = Seen(it, execution_id=public)
        await whole.done
        words = whole.words()
        assert len(words) == 4
        for place, event in enumerate(whole.events):
            rest = Seen(it, execution_id=public, cursor=event.cursor)
            await rest.done
            # The terminal event is told again to one who has it already: it ends the stream.
            assert rest.words() == (words[place + 1 :] or words[-1:])


@in_loop
async def test_partial_outputs_come_live_and_from_what_is_kept(authority: TestAuthority) -> None:
    async with engine_room(authority) as it:
        public, internal = await it.started()
        await publish(it, internal, (0, b"0"), (1, b"1"))
        await publish(it, 12345, (0, b"99"))
        seen = Seen(it, execution_id=public)
        await seen.until(3)
        await publish(it, internal, (2, b"2"))
        await seen.until(4)
        # A frame that was published twice, as after a lost confirmation.
        await publish(it, internal, (2, b"2"))
        await publish(it, internal, (3, b"3"), (4, b"4"))
        await it.engine.result(internal, 0, chunks=5)
        await it.engine.finish(internal)
        await seen.done
        partial = [event for event in seen.events if event.type == Type.PARTIAL]
        assert [event.data for event in partial] == [b"0", b"1", b"2", b"3", b"4"]
        assert {event.run_id for event in partial} == {"000000000000004d"}
        assert Type.GAP not in {event.type for event in seen.events}
        assert seen.events[-1].terminal
        for event in partial:
            rest = Seen(it, execution_id=public, cursor=event.cursor)
            await rest.done
            found = [entry.data for entry in rest.events if entry.type == Type.PARTIAL]
            wanted = [entry.data for entry in partial if entry.data > event.data]
            assert found[-len(wanted) :] == wanted if wanted else not found
        states = Seen(it, execution_id=public, states_only=True)
        await states.done
        assert states.words() == ["EXECUTION RUNNING", "TASK first COMPLETED",
                                  "EXECUTION COMPLETED"]  # fmt: skip


@in_loop
async def test_what_was_lost_is_a_gap(authority: TestAuthority) -> None:
    async with engine_room(authority) as it:
        public, internal = await it.started()
        await publish(it, internal, (0, b"0"))
        seen = Seen(it, execution_id=public)
        await seen.until(2)
        cursor = seen.events[-1].cursor
        await publish(it, internal, (3, b"3"))
        await seen.until(4)
        assert seen.words()[1:] == ["PARTIAL first", "GAP", "PARTIAL first"]
        await seen.stop()
        it.queue.broker.wipe()
        again = Seen(it, execution_id=public, cursor=cursor)
        await again.until(1)
        assert again.words() == ["GAP"]
        await again.stop()


@in_loop
async def test_an_end_waits_for_chunks_that_it_overtook(authority: TestAuthority) -> None:
    async with engine_room(authority) as it:
        public, internal = await it.started()
        seen = Seen(it, execution_id=public)
        await seen.until(1)
        await it.engine.result(internal, 0, chunks=1)
        await it.engine.finish(internal)
        await seen.until(2)
        await publish(it, internal, (0, b"late"))
        await seen.done
        assert seen.words()[-2:] == ["PARTIAL first", "EXECUTION COMPLETED"]


@in_loop
async def test_an_end_does_not_wait_for_ever(
    authority: TestAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution_watch, "LAST_CHUNKS_S", 0.05)
    async with engine_room(authority) as it:
        public, internal = await it.started()
        await it.engine.result(internal, 0, chunks=1)
        await it.engine.finish(internal)
        seen = Seen(it, execution_id=public)
        await seen.done
        assert seen.words()[-2:] == ["GAP", "EXECUTION COMPLETED"]


@in_loop
async def test_silence_is_broken_by_keepalives(
    authority: TestAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        execution_watch.ExecutionWatch.__init__, "__kwdefaults__", {"keepalive_s": 0.05}
    )
    async with engine_room(authority) as it:
        public, _ = await it.started()
        seen = Seen(it, execution_id=public)
        await seen.until(3)
        assert seen.words()[1:3] == ["KEEPALIVE", "KEEPALIVE"]
        assert seen.events[1].cursor == seen.events[2].cursor
        await seen.stop()


@in_loop
async def test_a_pause_is_seen(authority: TestAuthority) -> None:
    async with engine_room(authority) as it:
        public, internal = await it.started()
        seen = Seen(it, execution_id=public)
        await it.engine.event(internal, EventKind.QUARANTINED, body=b'{"why":"x"}')
        await seen.until(2)
        assert seen.words()[1] == "EXECUTION PAUSED"
        await seen.stop()


async def raw(it: EngineRoom, public: str, *metadata: tuple[str, str]) -> tuple[bytes, str]:
    request = pb.WatchExecutionRequest(execution_id=public)
    call = it.stub.WatchExecution(request, metadata=(*REST, *metadata), timeout=30)
    parts = [answer.body async for answer in call]
    return b"".join(part.data for part in parts), parts[0].content_type


@in_loop
async def test_rest_gets_lines_or_server_sent_events(authority: TestAuthority) -> None:
    async with engine_room(authority) as it:
        public, internal = await it.started()
        await it.engine.result(internal, 0, output=b'{\n  "pretty": "a\\nb"\r\n}')
        await it.engine.finish(internal)
        data, kind = await raw(it, public)
        assert kind == "application/x-ndjson"
        lines = [orjson.loads(line) for line in data.splitlines()]
        assert [line["type"] for line in lines] == ["execution", "task", "execution"]
        assert lines[1]["data"] == {"pretty": "a\nb"}
        assert lines[2] == {
            "cursor": lines[2]["cursor"], "time": lines[2]["time"], "type": "execution",
            "task": "", "item": -1, "attempt": 0, "run_id": "", "status": "COMPLETED",
            "data": {"answer": 42}, "terminal": True,
        }  # fmt: skip
        data, kind = await raw(it, public, ("accept", "text/event-stream"))
        assert kind == "text/event-stream"
        pattern = rb"(?:retry: \d+\n\n)?id: (\S+)\ndata: (\{[^\n]*\})\n\n"
        found = re.findall(pattern, data)
        assert re.sub(pattern, b"", data) == b""
        assert [orjson.loads(line)["type"] for _, line in found] == [
            "execution",
            "task",
            "execution",
        ]
        last = ("last-event-id", found[1][0].decode())
        resumed, _ = await raw(it, public, ("accept", "text/event-stream"), last)
        assert resumed.startswith(b"retry: 2000\n\n: keepalive\n\nid: ")
        told = [orjson.loads(line)["terminal"] for _, line in re.findall(pattern, resumed)]
        assert told == [True]
        data, _ = await raw(it, public, last)
        kinds = [orjson.loads(line)["type"] for line in data.splitlines()]
        assert kinds == ["keepalive", "execution"]


@pytest.mark.parametrize("cursor", ["garbage", "AAAA", "ü", "A" * 500])
@in_loop
async def test_a_wrong_cursor_is_refused(authority: TestAuthority, cursor: str) -> None:
    async with engine_room(authority) as it:
        public, _ = await it.started()
        other, internal = await it.started()
        await it.engine.finish(internal)
        stranger = Seen(it, execution_id=other)
        await stranger.done
        for wrong in (cursor, stranger.events[0].cursor):
            seen = Seen(it, execution_id=public, cursor=wrong)
            code, reason, _ = await refused(seen.done)
            assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_CURSOR")


@in_loop
async def test_an_unknown_execution_cannot_be_watched(authority: TestAuthority) -> None:
    async with engine_room(authority) as it:
        code, reason, _ = await refused(Seen(it, execution_id="chain-1").done)
        assert (code, reason) == (grpc.StatusCode.NOT_FOUND, "EXECUTION_NOT_FOUND")


@in_loop
async def test_completions_of_many_come_in_one_stream(authority: TestAuthority) -> None:
    async with engine_room(authority) as it:
        made = [await it.started() for _ in range(6)]
        chosen = await it.started(execution_id="chosen")
        elsewhere = await it.started()
        it.engine.overlay.clear()
        await it.engine.finish(made[0][1])
        ids = [public for public, _ in (*made, chosen, elsewhere)]
        request = pb.WatchExecutionsRequest(execution_ids=[*ids, ids[0]], include_payloads=True)
        finished: dict[str, execution_pb2.Execution] = {}

        async def read() -> None:
            call = it.stub.WatchExecutions(request, metadata=USER, timeout=30)
            async for answer in call:
                for execution in answer.executions:
                    assert execution.execution_id not in finished
                    finished[execution.execution_id] = execution

        reading = asyncio.create_task(read())
        await eventually(lambda: len(finished) == 1)
        key = await it.blobs.put("default/x", b'"large"')
        for _, internal in made[1:]:
            await it.engine.finish(internal, output=None, blob=key)
        failure = Failure("X", "y").to_json()
        for _, internal in (chosen, elsewhere):
            await it.engine.finish(
                internal, status=int(ExecutionStatus.FAILED), output=None, error=failure
            )
        await reading
        assert set(finished) == set(ids)
        assert finished[ids[0]].output == b'{"answer":42}'
        assert finished[ids[1]].output == b'"large"'
        assert finished["chosen"].error.reason == "X"
        assert finished["chosen"].workflow == "chain"
        request.execution_ids.append("chain-99")
        code, reason, metadata = await refused(reading_all(it, request))
        assert (code, reason) == (grpc.StatusCode.NOT_FOUND, "EXECUTION_NOT_FOUND")
        assert metadata["execution"] == "chain-99"


async def reading_all(it: EngineRoom, request: pb.WatchExecutionsRequest) -> None:
    async for _ in it.stub.WatchExecutions(request, metadata=USER, timeout=30):
        pass
