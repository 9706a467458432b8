"""The NATS adapter when nats-server dies: nothing hangs, publishes go on, pulls come back."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from nats.aio.client import Client

from bend_server.ports.queue import CHUNKS, TASKS, QueueDown
from bend_server.queue import jetstream, pull
from bend_server.queue.jetstream import NatsQueue
from bend_server.queue.memory import MemoryBroker, MemoryQueue
from tests.kit.loops import eventually, in_loop
from tests.kit.nats import NatsServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    nats = NatsServer(tmp_path).start()
    yield nats
    nats.stop()


@asynccontextmanager
async def connected(server: NatsServer) -> AsyncIterator[NatsQueue]:
    queue = await NatsQueue.connect(server.url, name="test")
    try:
        yield queue
    finally:
        await queue.close()


async def _next(consumer: object) -> bytes:
    async with asyncio.timeout(40):
        return (await consumer.next()).data  # type: ignore[attr-defined,no-any-return]


def test_a_killed_server_is_survived(server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Publishes under way are repeated at once, the standing pull is asked again.

    "At once" is no guess about a time: an attempt's own deadline is after the test's. What was
    delivered and not acknowledged may come again: the server was killed before it noted that.
    """
    monkeypatch.setattr(jetstream, "ATTEMPT_S", 1000.0)
    monkeypatch.setattr(jetstream, "PUBLISH_S", 1000.0)
    monkeypatch.setattr(pull, "SILENCE_S", 1000.0)

    @in_loop
    async def scenario() -> None:
        async with connected(server) as queue:
            calls: list[bool] = []
            queue.on_reconnect(lambda: calls.append(True))
            consumer = await queue.consume(TASKS, "tasks.a", "g-a", 30, None)
            consumer.demand(100)
            await queue.publish("tasks.a", b"before")
            assert await _next(consumer) == b"before"
            created = await queue.incarnation(TASKS)
            server.kill()
            await eventually(lambda: not queue.connected)
            publishing = asyncio.create_task(queue.publish("tasks.a", b"during"))
            await asyncio.sleep(0)
            await asyncio.to_thread(server.start)
            await publishing
            while (found := await _next(consumer)) != b"during":
                assert found == b"before"
            assert calls
            assert await queue.incarnation(TASKS) == created

    scenario()


def test_a_wiped_store_is_set_up_again(server: NatsServer) -> None:
    """Streams and consumers come back, sequences restart and the incarnation tells so."""

    @in_loop
    async def scenario() -> None:
        async with connected(server) as queue:
            consumer = await queue.consume(TASKS, "tasks.a", "g-a", 30, None)
            tail = await queue.tail("chunks.1", 0)
            consumer.demand(100)
            tail.demand(100)
            for _ in range(3):
                await queue.publish("tasks.a", b"lost")
                await queue.publish("chunks.1", b"lost")
            assert await _next(tail) == b"lost"
            created = await queue.incarnation(TASKS)
            server.kill(wipe=True)
            await eventually(lambda: not queue.connected)
            await asyncio.to_thread(server.start)
            sequence = await queue.publish("tasks.a", b"after")
            await queue.publish("chunks.1", b"after")
            assert sequence == 1
            assert await queue.incarnation(TASKS) != created
            while await _next(consumer) != b"after":
                pass
            while await _next(tail) != b"after":
                pass
            assert len([s async for s in queue.scan(CHUNKS, "chunks.1")]) == 1

    scenario()


def test_acks_of_a_lost_store_touch_nothing(server: NatsServer) -> None:
    """A token from before a wipe names a sequence that is another message now."""

    @in_loop
    async def scenario() -> None:
        async with connected(server) as queue, connected(server) as other:
            consumer = await queue.consume(TASKS, "tasks.a", "g-a", 30, None)
            consumer.demand(10)
            await queue.publish("tasks.a", b"old")
            async with asyncio.timeout(40):
                old = await consumer.next()
            server.kill(wipe=True)
            await eventually(lambda: not queue.connected and not other.connected)
            queue.ack(old.token)
            await asyncio.to_thread(server.start)
            sequence = await queue.publish("tasks.a", b"new")
            assert sequence == old.sequence
            assert await _next(consumer) == b"new"
            queue.ack(old.token)
            other.ack(old.token)
            await queue.publish("tasks.b", b"later")
            await other.publish("tasks.b", b"later")
            assert await queue.holds(TASKS, sequence)

    scenario()


def test_publishes_leave_the_loop_to_the_reconnect(server: NatsServer) -> None:
    """nats-py knows of a break before it tells: who publishes then must let it tell.

    Else each of them would hold the loop, and with it the whole process, until its own deadline.
    """

    @in_loop
    async def scenario() -> None:
        async with connected(server) as queue:
            client = queue._link.client
            status = client._status
            client._status = Client.RECONNECTING
            publishing = [
                asyncio.create_task(queue.publish("tasks.a", b"%d" % i)) for i in range(3)
            ]
            await asyncio.sleep(0)
            # A publish that held the loop would have ended, with an error.
            assert not any(task.done() for task in publishing)
            client._status = status
            await queue._link._back()
            assert sorted(await asyncio.gather(*publishing)) == [1, 2, 3]

    scenario()


def test_what_a_closed_pull_still_gets_is_handed_back(server: NatsServer) -> None:
    """Messages that were on their way when a pull ended go to somebody else at once.

    The ack_wait is longer than the test may take: only a hand-over brings them in time.
    """

    @in_loop
    async def scenario() -> None:
        async with connected(server) as queue, connected(server) as other:
            leaving = await queue.consume(TASKS, "tasks.a", "g-a", 600, None)
            leaving.demand(100)
            await other.publish("tasks.a", b"first")
            assert await _next(leaving) == b"first"
            reader = queue._link.client._transport._io_reader._transport
            reader.pause_reading()
            for _ in range(20):
                await other.publish("tasks.a", b"late")
            closing = asyncio.create_task(leaving.close())
            for _ in range(10):
                await asyncio.sleep(0)
            reader.resume_reading()
            await closing
            staying = await other.consume(TASKS, "tasks.a", "g-a", 600, None)
            staying.demand(100)
            for _ in range(20):
                assert await _next(staying) == b"late"

    scenario()


def test_a_server_that_stays_away_is_an_error(server: NatsServer) -> None:
    """No await hangs: each has a deadline of its own."""

    @in_loop
    async def scenario() -> None:
        async with connected(server) as queue:
            server.kill()
            await eventually(lambda: not queue.connected)
            with pytest.raises(QueueDown):
                await queue.publish("tasks.a", b"x")
            with pytest.raises(QueueDown):
                await queue.request("engine.open.0", b"x", 0.5)
            with pytest.raises(QueueDown):
                await NatsQueue.connect(server.url, timeout_s=1)

    scenario()


@in_loop
async def test_the_twin_survives_a_wipe_too() -> None:
    broker = MemoryBroker()
    queue, other = MemoryQueue(broker, "a"), MemoryQueue(broker, "b")
    calls: list[str] = []
    queue.on_reconnect(lambda: calls.append("wiped"))
    consumer = await queue.consume(TASKS, "tasks.a", "g-a", 0.2, None)
    consumer.demand(10)
    await queue.publish("tasks.a", b"lost")
    assert await _next(consumer) == b"lost"
    created = await queue.incarnation(TASKS)
    broker.wipe()
    assert calls == ["wiped"]
    assert await other.publish("tasks.a", b"after") == 1
    assert await _next(consumer) == b"after"
    assert await queue.incarnation(TASKS) != created
    await queue.close()
    await other.close()


@in_loop
async def test_a_dead_twin_loses_its_deliveries() -> None:
    """What a dead client held goes to another one after ack_wait, once."""
    broker = MemoryBroker()
    queue, other = MemoryQueue(broker, "a"), MemoryQueue(broker, "b")
    consumer = await queue.consume(TASKS, "tasks.a", "g-a", 0.1, None)
    consumer.demand(1)
    await other.publish("tasks.a", b"x")
    held = await consumer.next()
    queue.disconnect()
    second = await other.consume(TASKS, "tasks.a", "g-a", 0.1, None)
    second.demand(5)
    async with asyncio.timeout(40):
        again = await second.next()
    assert (again.data, again.deliveries) == (b"x", 2)
    queue.ack(held.token)
    assert await other.holds(TASKS, again.sequence)
    other.ack(again.token)
    assert not await other.holds(TASKS, again.sequence)
    await other.close()
    await queue.close()


class Storm:
    """Every message arrives twice, late; answers of the stream are lost once."""

    def __init__(self) -> None:
        self.lost = 0

    def fate(self, kind: str, subject: str) -> tuple[float, ...]:
        if kind == "stored" and self.lost < 1:
            self.lost += 1
            return ()
        return (0.02, 0.01)


@in_loop
async def test_weather_doubles_and_delays() -> None:
    broker = MemoryBroker(weather=Storm())
    queue = MemoryQueue(broker)
    consumer = await queue.consume(TASKS, "tasks.a", "g-a", 30, None)
    consumer.demand(20)
    await queue.publish("tasks.a", b"x")
    async with asyncio.timeout(40):
        deliveries = [await consumer.next() for _ in range(4)]
    assert {d.data for d in deliveries} == {b"x"}
    assert len({d.sequence for d in deliveries}) >= 2
    await queue.close()
