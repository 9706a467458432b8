"""If these fail, an executor that starts first on a new mesh dies once before it works."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from nats.aio.client import Client

from bend_server.ports.queue import TASKS, QueueDown
from bend_server.queue.jetstream import NatsQueue
from tests.kit.loops import in_loop
from tests.kit.nats import NatsServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    nats = NatsServer(tmp_path).start()
    yield nats
    nats.stop()


@in_loop
async def test_who_may_not_make_streams_waits_for_them(server: NatsServer) -> None:
    early = asyncio.create_task(
        NatsQueue.connect(server.url, name="executor", streams=None, timeout_s=20)
    )
    maker = await NatsQueue.connect(server.url, name="server")
    executor = await early
    assert await executor.incarnation(TASKS) == await maker.incarnation(TASKS)
    await executor.close()
    await maker.close()


@in_loop
async def test_the_wait_has_an_end(server: NatsServer) -> None:
    with pytest.raises(QueueDown):
        await NatsQueue.connect(server.url, name="executor", streams=None, timeout_s=0.5)


@in_loop
async def test_an_attempt_that_hides_its_cancellation_is_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """nats-py's attempts do that when they fail in that very moment, and it would try for ever."""
    attempts: list[int] = []

    async def attempt(_client: object, _server: object) -> None:
        attempts.append(1)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ConnectionRefusedError from None

    monkeypatch.setattr(Client, "_connect_to_server", attempt)
    with pytest.raises(QueueDown):
        await NatsQueue.connect("nats://127.0.0.1:9", timeout_s=0.2)
    assert attempts == [1]
