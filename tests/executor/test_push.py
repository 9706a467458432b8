"""Component services that listen: the executor dials them, and they are instances like others."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import orjson
import pytest

from bend import Context, Final, component
from bend.errors import ConfigurationError
from bend.listening import ListeningWorker
from bend.v1 import component_service_pb2 as pb
from bend.v1 import component_service_pb2_grpc, executor_service_pb2
from bend.worker import Worker
from bend_server.executor.listeners import Listener, Listeners, read_listeners
from bend_server.ports.queue import CHUNKS
from bend_server.queue.memory import MemoryBroker, MemoryQueue
from bend_server.rpc.push import dialer
from bend_server.rpc.server import TlsFiles
from tests.kit.certificates import TestAuthority
from tests.kit.links import Counter, House, contract, queued
from tests.kit.loops import eventually, in_loop
from tests.rpc.door import channel


class WallClock:
    """The machine's time."""

    def now_us(self) -> int:
        return time.time_ns() // 1000


class Site:
    """An executor over memory, its file of listeners, and what the services saw."""

    def __init__(self, folder: Path, authority: TestAuthority, **options: Any) -> None:
        clock = WallClock()
        self.house = House(
            MemoryQueue(MemoryBroker(clock.now_us), "x1"), clock, start=1 << 40, **options
        )
        self.file = folder / "listeners.yaml"
        self.authority = authority
        self.gate = asyncio.Event()
        self.begun: list[int] = []
        self.stopped: list[int] = []

    def dial(self, port: int, component: str = "echo", instances: int = 1) -> None:
        self.file.write_text(
            f"listeners: {{vision: {{address: '127.0.0.1:{port}', component: {component}, "
            f"instances: {instances}}}}}"
        )

    @contextlib.asynccontextmanager
    async def executor(self, stem: str = "executor") -> AsyncIterator[None]:
        """Run the executor with a certificate."""
        folder = self.authority.folder
        tls = TlsFiles(folder / f"{stem}.pem", folder / f"{stem}.key", self.authority.ca)
        dial = dialer(tls, "bend.local", "x1")
        await self.house.room.start()
        listeners = Listeners(self.file, "default", dial, self.house.room.attach, Counter())
        await listeners.start()
        try:
            yield
        finally:
            await self.house.room.stop()
            await listeners.stop()

    def worker(self, port: int = 0, stem: str = "component-echo") -> ListeningWorker:
        @component("echo", version="1.0.0")
        async def echo(n: int, context: Context) -> Any:
            self.begun.append(n)
            try:
                if n < 0:
                    await self.gate.wait()
            except asyncio.CancelledError:
                self.stopped.append(n)
                raise
            for step in range(3):
                yield step
            context.log("done")
            yield Final(n * 2)

        @component("plain", version="1.0.0")
        def plain(n: int) -> int:
            return [10, 20][n]

        @component("steady", version="1.0.0", long_running=True, heartbeats=True)
        async def steady(n: int, context: Context) -> int:
            if n < 0:
                await self.gate.wait()
            for _ in range(n):
                context.heartbeat()
                await asyncio.sleep(0.2)
            return n

        return Worker(
            [echo, plain, steady],
            credit=8,
            ca_file=self.authority.ca,
            cert_file=self.authority.folder / f"{stem}.pem",
            key_file=self.authority.folder / f"{stem}.key",
        ).listener(f"127.0.0.1:{port}")

    @property
    def registered(self) -> bool:
        return bool(self.house.registered.seen)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> TestAuthority:
    made = TestAuthority(tmp_path_factory.mktemp("certs"))
    for path in ("/executor", "/component/echo", "/component/other", "/user/ada"):
        made.issue(path)
    return made


@contextlib.asynccontextmanager
async def listening(worker: ListeningWorker) -> AsyncIterator[ListeningWorker]:
    """Run a worker; it drains at the end."""
    serving = asyncio.create_task(worker.serve())
    await eventually(lambda: bool(worker.port) or serving.done())
    try:
        yield worker
    finally:
        worker.stop()
        await serving


def test_tasks_chunks_failures_and_credit(tmp_path: Path, authority: TestAuthority) -> None:
    @in_loop
    async def scenario() -> None:
        site = Site(tmp_path, authority)
        async with listening(site.worker()) as worker:
            site.dial(worker.port)
            async with site.executor():
                await site.house.publish([queued(n) for n in range(200)])
                await site.house.publish(
                    [queued(1000 + n, input=b'{"n":%d}' % n) for n in (0, 1, 2)], "plain"
                )
                results = {one.execution: one for one in await site.house.ended(203)}
                assert all(results[n].output == b"%d" % (2 * n) for n in range(200))
                assert [results[n].output for n in (1000, 1001)] == [b"10", b"20"]
                assert results[1002].failure.reason == "INDEX_ERROR"
                assert [s async for s in site.house.queue.scan(CHUNKS, "chunks.*")]

    scenario()


def test_cancel_drain_and_a_second_life(tmp_path: Path, authority: TestAuthority) -> None:
    """A timeout cancels the call; a stop finishes what runs; the next process is found again."""

    @in_loop
    async def scenario() -> None:
        site = Site(tmp_path, authority, cancel_grace_s=2.0)
        async with contextlib.AsyncExitStack() as first:
            worker = await first.enter_async_context(listening(site.worker()))
            site.dial(worker.port)
            async with site.executor():
                await site.house.publish([queued(1, input=b'{"n":-1}', timeout_ms=300)])
                (late,) = await site.house.ended(1)
                assert late.failure.reason == "TIMEOUT"
                await eventually(lambda: site.stopped == [-1])
                await site.house.publish([queued(2, input=b'{"n":-2}', timeout_ms=60_000)])
                await eventually(lambda: -2 in site.begun)
                worker.stop()
                site.gate.set()
                done = await site.house.ended(2)
                assert done[1].output == b"-4"
                await first.aclose()
                async with listening(site.worker(worker.port)):
                    await site.house.publish([queued(3)])
                    assert (await site.house.ended(3))[2].output == b"6"
                assert site.begun == [-1, -2, 3]

    scenario()


class Foreign(component_service_pb2_grpc.ComponentServiceServicer):
    """A service of somebody else, without health, that answers by what it is asked."""

    def __init__(self) -> None:
        self.tokens: list[bytes] = []
        self.gate = asyncio.Event()

    async def Describe(self, request: Any, context: Any) -> pb.DescribeResponse:
        return pb.DescribeResponse(
            protocol_version=1, instance_id="f1", components=[contract(long_running=True)], credit=4
        )

    async def Execute(self, request: Any, context: Any) -> AsyncIterator[pb.ExecuteResponse]:
        self.tokens.append(request.task.resume_token)
        what = orjson.loads(request.task.input)["n"]
        if what == "good":
            result = executor_service_pb2.TaskResult(run_id=7, output=b"1")
            yield pb.ExecuteResponse(result=result)
        elif what == "slow":
            await self.gate.wait()
            yield pb.ExecuteResponse(result=executor_service_pb2.TaskResult(output=b"2"))
        elif what == "full":
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "later")


def test_a_foreign_service_and_its_faults(tmp_path: Path, authority: TestAuthority) -> None:
    """No health, wrong run ids, errors and silence: each is its task's end, not the link's."""

    @in_loop
    async def scenario() -> None:
        site, service = Site(tmp_path, authority), Foreign()
        server = grpc.aio.server()
        component_service_pb2_grpc.add_ComponentServiceServicer_to_server(service, server)
        files = [authority.folder / f"component-echo.{kind}" for kind in ("key", "pem")]
        key, chain = (file.read_bytes() for file in files)
        port = server.add_secure_port(
            "127.0.0.1:0",
            grpc.ssl_server_credentials([(key, chain)], authority.ca.read_bytes(), True),
        )
        await server.start()
        site.dial(port)
        async with site.executor():
            asked = ("good", "full", "silent")
            await site.house.publish(
                [queued(n, input=orjson.dumps({"n": asked[n]})) for n in range(3)]
            )
            found = {one.execution: one for one in await site.house.ended(3)}
            assert found[0].output == b"1"
            assert found[1].failure.reason == "GRPC_RESOURCE_EXHAUSTED"
            assert found[2].failure.reason == "PROTOCOL_VIOLATION"
            await site.house.publish([queued(4, input=b'{"n":"slow"}')])
            await eventually(lambda: service.tokens == [b""] * 4)
            # GOAWAY: what runs is finished, once.
            stopping = asyncio.create_task(server.stop(20))
            await eventually(
                lambda: (
                    not any(g.sessions for g in site.house.room._groups.values())
                    or all(s.draining for s in site.house.room._sessions)
                )
            )
            service.gate.set()
            assert (await site.house.ended(4))[3].output == b"2"
            await stopping
            assert len(service.tokens) == 4

    scenario()


def test_heartbeats_of_the_link_and_of_tasks(tmp_path: Path, authority: TestAuthority) -> None:
    """The link's own beats keep an idle stream; a task that tells no progress for long fails.

    A machine that is busy with others may miss beats: then the same is tried with longer times.
    """

    async def ended(longer: int) -> tuple[str, bytes, int]:
        site = Site(tmp_path, authority, silence_s=0.6 * longer)
        limit_ms, steps = 700 * longer, 6 * longer
        async with listening(site.worker()) as worker:
            site.dial(worker.port)
            async with site.executor():
                silent = queued(1, input=b'{"n":-1}', heartbeat_timeout_ms=limit_ms)
                await site.house.publish([silent], "steady")
                steady = queued(2, input=b'{"n":%d}' % steps, heartbeat_timeout_ms=limit_ms)
                await site.house.publish([steady], "steady")
                found = {one.execution: one for one in await site.house.ended(2)}
                registered = len(site.house.registered.seen)
                return found[1].failure.reason, found[2].output, registered

    @in_loop
    async def scenario() -> None:
        for longer in (1, 4, 12):
            # Three components were registered once: the stream was never cut.
            wanted = ("HEARTBEAT_TIMEOUT", b"%d" % (6 * longer), 3)
            if (found := await ended(longer)) == wanted:
                break
        assert found == wanted

    scenario()


def test_one_connection_to_each_process(tmp_path: Path, authority: TestAuthority) -> None:
    @in_loop
    async def scenario() -> None:
        site = Site(tmp_path, authority)
        dialled: list[str] = []
        ended: list[str] = []

        class Link:
            instance_id = "i1"

            async def close(self) -> None:
                ended.append(self.instance_id)

        async def dial(listener: Listener) -> Any:
            dialled.append(listener.address)
            return Link()

        async def attach(link: Any) -> None:
            await site.gate.wait()

        site.dial(9, instances=3)
        listeners = Listeners(site.file, "default", dial, attach, Counter())
        await listeners.start()
        # Two of three meet the process that is connected already, close and try again.
        await eventually(lambda: len(dialled) > 6 and len(dialled) - len(ended) == 1)
        site.file.write_text("listeners: {}")
        await eventually(lambda: len(dialled) == len(ended))
        await listeners.stop()

    scenario()


@pytest.mark.parametrize(
    ("ours", "theirs", "wanted"),
    [
        ("executor", "component-other", "echo"),
        ("executor", "executor", "echo"),
        ("component-echo", "component-echo", "echo"),
        ("user-ada", "component-echo", "echo"),
        ("executor", "stranger", "echo"),
    ],
)
def test_a_wrong_certificate_is_refused(
    tmp_path: Path, authority: TestAuthority, ours: str, theirs: str, wanted: str
) -> None:
    """Each side lets in the other by its SPIFFE id alone, and only of its own authority."""
    other = TestAuthority(tmp_path / "other")
    pem, key = other.issue("/component/echo")
    (authority.folder / "stranger.pem").write_bytes(pem.read_bytes())
    (authority.folder / "stranger.key").write_bytes(key.read_bytes())

    @in_loop
    async def scenario() -> None:
        site = Site(tmp_path, authority)
        folder = authority.folder
        tls = TlsFiles(folder / f"{ours}.pem", folder / f"{ours}.key", authority.ca)
        async with listening(site.worker(stem=theirs)) as worker:
            listener = Listener("v", f"127.0.0.1:{worker.port}", wanted, "default", 1)
            with pytest.raises(Exception, match=REFUSED) as caught:
                await dialer(tls, "bend.local", "x1")(listener)
            assert type(caught.value).__name__ == "LinkBroken"

    scenario()


REFUSED = "answered by|PERMISSION_DENIED|self-signed|unable to get local issuer|signature"


def test_calls_that_cannot_be_are_refused(tmp_path: Path, authority: TestAuthority) -> None:
    @in_loop
    async def scenario() -> None:
        site = Site(tmp_path, authority)
        async with listening(site.worker()) as worker:

            async def code(stem: str, request: pb.ExecuteRequest) -> grpc.StatusCode:
                async with channel(authority, worker.port, stem) as open_channel:
                    call = component_service_pb2_grpc.ComponentServiceStub(open_channel).Execute(
                        request, timeout=20
                    )
                    return await call.code()

            known = worker.description().instance_id
            wrong = pb.ExecuteRequest(instance_id=known)
            wrong.task.component = 9
            assert await code("executor", wrong) is grpc.StatusCode.INVALID_ARGUMENT
            stale = pb.ExecuteRequest(instance_id="another")
            assert await code("executor", stale) is grpc.StatusCode.FAILED_PRECONDITION
            assert await code("user-ada", wrong) is grpc.StatusCode.PERMISSION_DENIED

    scenario()


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "pools: []",
        "listeners: [a]",
        "listeners: {a: {address: 'host'}}",
        "listeners: {a: {address: 'host:0'}}",
        "listeners: {a: {address: 'host:99999'}}",
        "listeners: {a: {address: 'h:1', component: '../x'}}",
        "listeners: {a: {address: 'h:1', instances: 0}}",
        "listeners: {a: {address: 'h:1', instances: true}}",
        "listeners: {a: {address: 'h:1', port: 1}}",
        "listeners: {a: ",
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "listeners.yaml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=r"listeners\.yaml"):
        read_listeners(file, "default")


def test_the_file_has_defaults(tmp_path: Path) -> None:
    file = tmp_path / "listeners.yaml"
    assert read_listeners(file, "default") == frozenset()
    file.write_text("listeners: {a: {address: '[::1]:9000'}}")
    assert read_listeners(file, "n") == {Listener("a", "[::1]:9000", "a", "n", 1)}
