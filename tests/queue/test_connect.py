"""If these fail, an executor that starts first on a new mesh dies once before it works."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

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
