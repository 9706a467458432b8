"""nats-server with our configuration: who gets in, and who may say what."""

import asyncio
import ssl
from collections.abc import Iterator
from pathlib import Path

import nats
import nats.errors
import pytest

from bend_server.certificates import TRUST_DOMAIN, Authority
from bend_server.local.nats import NatsSettings, inbox_prefix, program, render
from bend_server.ports.queue import RESULTS, TASKS
from bend_server.queue.jetstream import NatsQueue
from tests.kit.loops import eventually, in_loop
from tests.kit.programs import free_port, listens, running, wait_until


class Door:
    """A running nats-server and its authority."""

    def __init__(self, authority: Authority, port: int) -> None:
        self.authority = authority
        self.url = f"tls://127.0.0.1:{port}"

    def context(self, path: str | None) -> ssl.SSLContext:
        """Return a TLS context with the certificate of an identity, or without one."""
        context = ssl.create_default_context(cafile=str(self.authority.ca_file))
        if path is not None:
            context.load_cert_chain(*self.authority.leaf(path))
        return context

    async def queue(self, role: str, *, streams: bool = False) -> NatsQueue:
        """Connect as the processes do; the registry has no use for streams."""
        more = {} if streams else {"streams": None}
        return await NatsQueue.connect(
            self.url,
            self.context(f"/{role}"),
            inbox_prefix=inbox_prefix(role),
            jetstream=role != "registry",
            **more,  # type: ignore[arg-type]
        )


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """Run a nats-server with certificates of the product's own authority."""
    folder = tmp_path_factory.mktemp("nats")
    authority = Authority(folder / "certs")
    leaf = authority.leaf("/nats")
    port = free_port()
    config = folder / "nats.json"
    config.write_text(
        render(
            NatsSettings(
                address="127.0.0.1",
                port=port,
                store=folder / "store",
                ca_file=authority.ca_file,
                cert_file=leaf.certificate,
                key_file=leaf.key,
                trust_domain=TRUST_DOMAIN,
            )
        )
    )
    with running([program(), "-c", str(config)], folder / "nats.log", GOMAXPROCS="1"):
        wait_until(lambda: listens(port), what="nats-server listens")
        yield Door(authority, port)
    print((folder / "nats.log").read_text())


async def refused(door: Door, context: ssl.SSLContext) -> None:
    """Fail unless the server refuses a connection."""
    with pytest.raises((nats.errors.Error, OSError, TimeoutError)):
        await _call_in(door, context)


async def _call_in(door: Door, context: ssl.SSLContext) -> None:
    async def ignore(_error: Exception) -> None:
        return

    async with asyncio.timeout(60):
        link = await nats.connect(
            door.url, tls=context, allow_reconnect=False, connect_timeout=30, error_cb=ignore
        )
        try:
            # Under TLS 1.3 a refusal may come only with the first answer.
            await link.flush(30)
        finally:
            await link.close()


@pytest.mark.parametrize("path", ["/component/x", "/user/dev", "/gateway", "/bench", "/nats"])
@in_loop
async def test_valid_certificate_of_another_role_is_refused(door: Door, path: str) -> None:
    await refused(door, door.context(path))


@in_loop
async def test_no_certificate_and_a_strangers_are_refused(door: Door, tmp_path: Path) -> None:
    await refused(door, door.context(None))
    stranger = Authority(tmp_path / "certs").leaf("/engine")
    context = ssl.create_default_context(cafile=str(door.authority.ca_file))
    context.load_cert_chain(*stranger)
    await refused(door, context)


@in_loop
async def test_each_service_can_do_its_work(door: Door) -> None:
    """The permissions must not be tighter than the work: a frame goes there and back."""
    engine = await door.queue("engine", streams=True)
    executor = await door.queue("executor")
    registry = await door.queue("registry")
    heard: list[bytes] = []

    async def hear(data: bytes) -> None:
        heard.append(data)

    async def answer(data: bytes) -> bytes:
        return data + b"!"

    try:
        await registry.subscribe("registry.announce", hear)
        await engine.subscribe("registry.announce", hear)
        await executor.subscribe("executor.cancel", hear)
        await executor.subscribe("executor.drain", hear)
        await engine.serve("engine.open.0", answer)
        assert await executor.request("engine.open.0", b"?", 30) == b"?!"
        await executor.broadcast("registry.announce", b"a")
        await engine.broadcast("executor.cancel", b"c")
        await eventually(lambda: sorted(heard) == [b"a", b"a", b"c"])
        await registry.broadcast("registry.announce", b"p")
        await registry.broadcast("executor.drain", b"d")
        await eventually(lambda: sorted(heard[3:]) == [b"d", b"p", b"p"])
        await engine.publish("tasks.g", b"task")
        tasks = await executor.consume(TASKS, "tasks.g", "g-g", 5.0, 30.0)
        tasks.demand(1)
        task = await tasks.next()
        await executor.publish("results.0", b"result")
        await executor.publish("chunks.0", b"chunk")
        executor.ack(task.token)
        results = await engine.consume(RESULTS, "results.0", "r-0", 5.0, None)
        results.demand(1)
        assert (await results.next()).data == b"result"
        assert [one.data async for one in engine.scan(RESULTS, "results.0")] == [b"result"]
        await eventually(lambda: _gone(engine, task.sequence))
        await engine.purge(RESULTS, "results.0")
    finally:
        for queue in (engine, executor, registry):
            await queue.close()


async def _gone(queue: NatsQueue, sequence: int) -> bool:
    return not await queue.holds(TASKS, sequence)


@pytest.mark.parametrize(
    ("role", "subject"),
    [
        ("executor", "tasks.g"),
        ("executor", "executor.cancel"),
        ("executor", "engine.command.0"),
        ("executor", "$JS.API.STREAM.DELETE.TASKS"),
        ("executor", "$JS.API.STREAM.PURGE.RESULTS"),
        ("executor", "$JS.API.CONSUMER.CREATE.RESULTS.x.results.0"),
        ("executor", "$JS.API.CONSUMER.DELETE.TASKS.g-g"),
        ("registry", "executor.cancel"),
        ("registry", "tasks.g"),
        ("registry", "$JS.API.STREAM.DELETE.TASKS"),
        ("engine", "executor.adopted"),
        ("engine", "chunks.0"),
    ],
)
@in_loop
async def test_publish_outside_of_the_role_is_refused(door: Door, role: str, subject: str) -> None:
    assert "permissions violation" in await _complaint(door, role, publish=subject)


@pytest.mark.parametrize(
    ("role", "subject"),
    [
        ("executor", ">"),
        ("executor", "results.0"),
        ("executor", "tasks.g"),
        ("executor", "engine.open.0"),
        ("executor", "_INBOX_engine.>"),
        ("registry", "tasks.>"),
        ("engine", "tasks.g"),
        ("engine", "_INBOX_executor.>"),
    ],
)
@in_loop
async def test_listening_outside_of_the_role_is_refused(
    door: Door, role: str, subject: str
) -> None:
    assert "permissions violation" in await _complaint(door, role, subscribe=subject)


async def _complaint(
    door: Door, role: str, publish: str | None = None, subscribe: str | None = None
) -> str:
    """Return what the server complains about, in lower case."""
    complaints: list[str] = []

    async def keep(error: Exception) -> None:
        complaints.append(str(error).lower())

    link = await nats.connect(
        door.url,
        tls=door.context(f"/{role}"),
        error_cb=keep,
        inbox_prefix=inbox_prefix(role).encode(),
        allow_reconnect=False,
        connect_timeout=30,
    )
    try:
        if publish is not None:
            await link.publish(publish, b"x")
        if subscribe is not None:
            await link.subscribe(subscribe)
        await link.flush(30)
        await eventually(lambda: bool(complaints))
    finally:
        await link.close()
    return complaints[0]
