"""One contract for the queue, held by the in-memory twin and by NATS."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bend_server.ports.queue import (
    CHUNKS,
    RESULTS,
    TASKS,
    Consumer,
    Delivery,
    Queue,
    QueueDown,
    QueueFull,
)
from bend_server.queue.jetstream import NatsQueue
from bend_server.queue.memory import MemoryBroker, MemoryQueue
from bend_server.queue.streams import StreamOptions
from tests.kit.loops import eventually, in_loop
from tests.kit.nats import NatsServer


@pytest.fixture(scope="module")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path_factory.mktemp("nats")).start()
    yield server
    server.stop()


class House:
    """Makes clients of one queue, by either implementation."""

    def __init__(self, kind: str, server: NatsServer | None) -> None:
        self.kind = kind
        self._server = server

    @asynccontextmanager
    async def clients(
        self, count: int = 1, bytes_max: int = 64 << 20
    ) -> AsyncIterator[list[Queue]]:
        """Open clients over fresh streams."""
        made: list[Any] = []
        if self.kind == "memory":
            broker = MemoryBroker(bytes_max=bytes_max)
            made = [MemoryQueue(broker, f"c{i}") for i in range(count)]
        else:
            assert self._server is not None
            options = StreamOptions(work_bytes_max=bytes_max, chunk_bytes_max=bytes_max)
            for index in range(count):
                made.append(
                    await NatsQueue.connect(self._server.url, name=f"c{index}", streams=options)
                )
            for stream in (TASKS, RESULTS, CHUNKS):
                await made[0]._link.call(f"$JS.API.STREAM.DELETE.{stream}", {})
            for client in made:
                await client._know_streams()
            for stream in (TASKS, RESULTS, CHUNKS):
                # The server may still be deleting when a stream of that name is made again.
                await made[0].purge(stream, ">")
        try:
            yield made
        finally:
            for client in made:
                await client.close()


@pytest.fixture(params=["memory", "nats"])
def house(request: pytest.FixtureRequest) -> House:
    server = request.getfixturevalue("nats_server") if request.param == "nats" else None
    return House(request.param, server)


async def soon(call: Awaitable[Any]) -> Any:
    """Await with a deadline."""
    async with asyncio.timeout(90):
        return await call


async def quiet(call: Awaitable[Any], seconds: float = 0.15) -> bool:
    """Tell whether a call stays unanswered."""
    try:
        async with asyncio.timeout(seconds):
            await call
    except TimeoutError:
        return True
    return False


@in_loop
async def _published_messages_arrive_in_order(house: House) -> None:
    async with house.clients() as [queue]:
        consumer = await queue.consume(TASKS, "tasks.a", "g-a", 10, None)
        first = await queue.publish("tasks.a", b"1")
        second = await queue.publish("tasks.a", b"2")
        await queue.publish("tasks.b", b"other")
        assert second == first + 1
        consumer.demand(10)
        one, two = await soon(consumer.next()), await soon(consumer.next())
        assert [one.data, two.data] == [b"1", b"2"]
        assert [one.sequence, two.sequence] == [first, second]
        assert one.deliveries == 1
        assert one.subject == "tasks.a"
        assert one.published_us > 0
        assert await quiet(consumer.next())


@in_loop
async def _demand_bounds_what_comes(house: House) -> None:
    async with house.clients() as [queue]:
        consumer = await queue.consume(TASKS, "tasks.a", "g-a", 10, None)
        for number in range(5):
            await queue.publish("tasks.a", b"%d" % number)
        assert await quiet(consumer.next())
        consumer.demand(2)
        assert (await soon(consumer.next())).data == b"0"
        assert (await soon(consumer.next())).data == b"1"
        assert await quiet(consumer.next())
        consumer.demand(1)
        assert (await soon(consumer.next())).data == b"2"
        assert await quiet(consumer.next())


@in_loop
async def _standing_demand_waits_for_messages(house: House) -> None:
    async with house.clients(2) as [queue, other]:
        consumer = await queue.consume(TASKS, "tasks.a", "g-a", 10, None)
        consumer.demand(3)
        waiting = asyncio.create_task(soon(consumer.next()))
        await other.publish("tasks.a", b"x")
        assert (await waiting).data == b"x"


@in_loop
async def _acked_messages_are_gone(house: House) -> None:
    async with house.clients() as [queue]:
        consumer = await queue.consume(TASKS, "tasks.a", "g-a", 10, None)
        consumer.demand(1)
        sequence = await queue.publish("tasks.a", b"x")
        delivery = await soon(consumer.next())
        assert await queue.holds(TASKS, sequence)
        queue.ack(delivery.token)

        async def gone() -> bool:
            return not await queue.holds(TASKS, sequence)

        await eventually(gone)


@in_loop
async def _unacked_messages_come_again(house: House) -> None:
    async with house.clients() as [queue]:
        consumer = await queue.consume(TASKS, "tasks.a", "g-a", 0.3, None)
        consumer.demand(5)
        await queue.publish("tasks.a", b"x")
        assert (await soon(consumer.next())).deliveries == 1
        again = await soon(consumer.next())
        assert (again.data, again.deliveries) == (b"x", 2)
        queue.ack(again.token)

        async def gone() -> bool:
            return not await queue.holds(TASKS, again.sequence)

        await eventually(gone)


async def kept(queue: Queue, consumer: Consumer, delivery: Delivery) -> tuple[bool, bool]:
    """Say four times in 1.2 s that work goes on; tell if nothing came, and if all was in time."""
    loop = asyncio.get_running_loop()
    said, in_time, silent = loop.time(), True, True
    for _ in range(4):
        queue.in_progress(delivery.token)
        silent = silent and await quiet(consumer.next(), 0.3)
        in_time = in_time and loop.time() - said < 0.5
        said = loop.time()
    return silent, in_time


@in_loop
async def _progress_puts_redelivery_off(house: House) -> None:
    async with house.clients() as [queue]:
        put_off, tries = False, 0
        while not put_off:
            tries += 1
            subject = f"tasks.{tries}"
            consumer = await queue.consume(TASKS, subject, f"g-{tries}", 0.8, None)
            consumer.demand(5)
            await queue.publish(subject, b"x")
            delivery = await soon(consumer.next())
            put_off, in_time = await kept(queue, consumer, delivery)
            # On a busy machine the words may come too late; then it is tried with another message.
            assert put_off or not in_time
            assert (await soon(consumer.next())).deliveries >= 2


@in_loop
async def _naks_hand_back(house: House) -> None:
    async with house.clients(2) as [queue, other]:
        consumer = await queue.consume(TASKS, "tasks.a", "g-a", 30, None)
        consumer.demand(1)
        await queue.publish("tasks.a", b"x")
        delivery = await soon(consumer.next())
        second = await other.consume(TASKS, "tasks.a", "g-a", 30, None)
        second.demand(2)
        queue.nak(delivery.token)
        again = await soon(second.next())
        assert again.deliveries == 2
        other.nak(again.token, 1.5)
        assert await quiet(second.next())
        assert (await soon(second.next())).deliveries == 3


@in_loop
async def _a_stranger_may_ack(house: House) -> None:
    """An adopter of long tasks acks what another executor pulled."""
    async with house.clients(2) as [queue, other]:
        consumer = await queue.consume(TASKS, "tasks.a", "g-a", 30, None)
        consumer.demand(1)
        sequence = await queue.publish("tasks.a", b"x")
        delivery = await soon(consumer.next())
        await consumer.close()
        other.ack(delivery.token)

        async def gone() -> bool:
            return not await other.holds(TASKS, sequence)

        await eventually(gone)


@in_loop
async def _what_is_out_can_be_handed_back_by_another(house: House) -> None:
    """A successor finds what a dead one was sent, and does not wait for its ack_wait."""
    async with house.clients(2) as [queue, other]:
        dead = await queue.consume(TASKS, "tasks.a", "g-a", 30, None)
        beside = await queue.consume(TASKS, "tasks.b", "g-b", 30, None)
        assert dead.unacked() == {}
        sequences = [await queue.publish(f"tasks.{name}", name.encode()) for name in "abaabaaa"]
        dead.demand(4)
        beside.demand(2)
        taken = [await soon(dead.next()) for _ in range(4)]
        for _ in range(2):
            await soon(beside.next())
        queue.ack(taken[1].token)

        async def gone() -> bool:
            return not await queue.holds(TASKS, taken[1].sequence)

        await eventually(gone)
        heir = await other.consume(TASKS, "tasks.a", "g-a", 30, None)
        left = heir.unacked()
        assert {taken[0].sequence, *(one.sequence for one in taken[2:])} <= set(left)
        # None that was not sent before: it will come by itself.
        assert max(left) == taken[-1].sequence < max(sequences)
        for token in left.values():
            other.nak(token)
        heir.demand(9)
        came = [await soon(heir.next()) for _ in range(5)]
        again = {one.sequence for one in came if one.deliveries == 2}
        assert again == {taken[0].sequence, taken[2].sequence, taken[3].sequence}
        assert len({one.sequence for one in came}) == 5
        # What is acked does not come again, nor does anything of another consumer.
        assert await quiet(heir.next())
        beside.demand(9)
        assert await quiet(beside.next())
        for one in came:
            other.ack(one.token)

        async def empty() -> bool:
            return not [stored async for stored in queue.scan(TASKS, "tasks.a")]

        await eventually(empty)
        last = await queue.consume(TASKS, "tasks.a", "g-a", 30, None)
        assert last.unacked() == {}


@in_loop
async def _two_pullers_share(house: House) -> None:
    async with house.clients(2) as [one, two]:
        first = await one.consume(TASKS, "tasks.a", "g-a", 30, None)
        second = await two.consume(TASKS, "tasks.a", "g-a", 30, None)
        first.demand(2)
        second.demand(2)
        for number in range(4):
            await one.publish("tasks.a", b"%d" % number)
        got = [(await soon(c.next())).data for c in (first, first, second, second)]
        assert sorted(got) == [b"0", b"1", b"2", b"3"]


@in_loop
async def _scan_reads_without_consuming(house: House) -> None:
    async with house.clients() as [queue]:
        for number in range(2500):
            subject = "tasks.a" if number % 2 else "tasks.b"
            await queue.publish(subject, b"%d" % number)
        held = [stored async for stored in queue.scan(TASKS, "tasks.a")]
        assert [int(stored.data) for stored in held] == list(range(1, 2500, 2))
        assert all(stored.subject == "tasks.a" for stored in held)
        assert [stored async for stored in queue.scan(RESULTS, "results.0")] == []
        consumer = await queue.consume(TASKS, "tasks.a", "g-a", 30, None)
        consumer.demand(1)
        assert (await soon(consumer.next())).data == b"1"


@in_loop
async def _purge_drops_one_subject(house: House) -> None:
    async with house.clients() as [queue]:
        await queue.publish("tasks.a", b"x")
        await queue.publish("tasks.b", b"y")
        await queue.purge(TASKS, "tasks.a")
        assert [s async for s in queue.scan(TASKS, "tasks.a")] == []
        assert len([s async for s in queue.scan(TASKS, "tasks.b")]) == 1


@in_loop
async def _a_full_stream_refuses(house: House) -> None:
    async with house.clients(bytes_max=64_000) as [queue]:

        async def fill() -> None:
            for _ in range(80):
                await queue.publish("tasks.a", bytes(1000))

        with pytest.raises(QueueFull):
            await fill()
        for _ in range(80):
            await queue.publish("chunks.1", bytes(1000))
        kept = [s async for s in queue.scan(CHUNKS, "chunks.1")]
        assert 0 < len(kept) < 80
        assert kept[-1].sequence >= 80


@in_loop
async def _tails_read_from_a_sequence(house: House) -> None:
    async with house.clients() as [queue]:
        sequences = [await queue.publish("chunks.3", b"%d" % n) for n in range(4)]
        old = await queue.tail("chunks.3", sequences[2])
        new = await queue.tail("chunks.*", 0)
        old.demand(10)
        new.demand(10)
        assert [(await soon(old.next())).data for _ in range(2)] == [b"2", b"3"]
        await queue.publish("chunks.3", b"4")
        assert (await soon(new.next())).data == b"4"
        assert (await soon(old.next())).data == b"4"
        await old.close()
        with pytest.raises(QueueDown):
            await old.next()


@in_loop
async def _core_messages(house: House) -> None:
    async with house.clients(2) as [queue, other]:
        heard: list[bytes] = []

        async def hear(data: bytes) -> None:
            if data == b"bad":
                raise ValueError("a handler's fault stays its own")
            heard.append(data)

        async def shout(data: bytes) -> bytes:
            return data.upper()

        subscription = await queue.subscribe("registry.announce", hear)
        for data in (b"a", b"bad", b"b"):
            await other.broadcast("registry.announce", data)
        await eventually(lambda: heard == [b"a", b"b"])
        await subscription.close()
        await other.broadcast("registry.announce", b"c")
        served = await queue.serve("engine.open.1", shout)
        assert await other.request("engine.open.1", b"hey", 40) == b"HEY"
        assert heard == [b"a", b"b"]
        await served.close()
        with pytest.raises(QueueDown):
            await other.request("engine.open.1", b"hey", 1)


@in_loop
async def _what_is_sent_after_a_subscription_is_heard(house: House) -> None:
    """There is no gap after `serve` and `subscribe` in which a message of another is lost."""
    async with house.clients(2) as [queue, other]:
        heard: list[bytes] = []

        async def hear(data: bytes) -> None:
            heard.append(data)

        async def shout(data: bytes) -> bytes:
            return data.upper()

        for number in range(25):
            await queue.serve(f"engine.open.{number}", shout)
            assert await other.request(f"engine.open.{number}", b"hey", 20) == b"HEY"
            await queue.subscribe(f"engine.started.{number}", hear)
            await other.broadcast(f"engine.started.{number}", b"%d" % number)
        await eventually(lambda: heard == [b"%d" % number for number in range(25)])


@in_loop
async def _incarnations_are_stable(house: House) -> None:
    async with house.clients(2) as [queue, other]:
        assert await queue.incarnation(TASKS) == await other.incarnation(TASKS) > 0


@in_loop
async def _closed_consumers_end(house: House) -> None:
    async with house.clients() as [queue]:
        consumer = await queue.consume(TASKS, "tasks.a", "g-a", 10, None)
        waiting = asyncio.create_task(consumer.next())
        await asyncio.sleep(0)
        await consumer.close()
        with pytest.raises(QueueDown):
            await soon(waiting)


CONTRACT: list[Callable[[House], None]] = [
    value for name, value in list(globals().items()) if name.startswith("_") and callable(value)
    and not name.startswith("__")
]  # fmt: skip


@pytest.mark.parametrize("rule", CONTRACT, ids=lambda rule: rule.__name__.strip("_"))
def test_contract(house: House, rule: Callable[[House], None]) -> None:
    rule(house)
