"""The executor on real parts: nats-server, mTLS gRPC, and the SDK's worker."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from bend import Final, component
from bend.v1 import executor_service_pb2 as pb
from bend.v1 import executor_service_pb2_grpc
from bend.worker import Worker
from bend_server.ports.queue import CHUNKS, TASKS
from bend_server.queue.jetstream import NatsQueue
from bend_server.rpc.connect import executor_service
from tests.kit.certificates import TestAuthority
from tests.kit.links import House, contract, queued
from tests.kit.loops import eventually, in_loop
from tests.kit.nats import NatsServer
from tests.rpc.door import channel, details, serving


class WallClock:
    """The machine's time."""

    def now_us(self) -> int:
        return time.time_ns() // 1000


@component("echo", version="1.0.0")
async def echo(n: int) -> int:
    return n * 2


@component("count", version="1.0.0")
async def count(n: int) -> Any:
    for step in range(n):
        yield step
    yield Final({"steps": n})


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> TestAuthority:
    made = TestAuthority(tmp_path_factory.mktemp("certs"))
    for path in ("/executor", "/component/echo", "/user/ada"):
        made.issue(path)
    return made


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path / "nats").start()
    yield server
    server.stop()


@contextlib.asynccontextmanager
async def executor(nats: NatsServer, authority: TestAuthority) -> AsyncIterator[tuple[House, int]]:
    """Start an executor on NATS, served by gRPC."""
    queue = await NatsQueue.connect(nats.url, name="executor")
    house = House(queue, WallClock(), start=time.time_ns(), drain_grace_s=2.0)
    await house.room.start()
    try:
        async with serving(authority, [executor_service(house.room)], role="executor") as server:
            yield house, server.port
            await house.room.stop()
    finally:
        await house.room.stop()
        await queue.close()


@contextlib.asynccontextmanager
async def working(authority: TestAuthority, port: int) -> AsyncIterator[Worker]:
    """Run the SDK's worker against an executor."""
    worker = Worker(
        [echo, count],
        credit=256,
        url=f"https://127.0.0.1:{port}",
        ca_file=authority.ca,
        cert_file=authority.folder / "component-echo.pem",
        key_file=authority.folder / "component-echo.key",
    )
    serving_task = asyncio.create_task(worker.serve())
    try:
        await eventually(lambda: worker.connected or serving_task.done())
        yield worker
    finally:
        worker.stop()
        async with asyncio.timeout(90):
            await serving_task


def test_tasks_through_real_parts(nats: NatsServer, authority: TestAuthority) -> None:
    @in_loop
    async def scenario() -> None:
        async with executor(nats, authority) as (house, port), working(authority, port):
            for start in range(0, 2048, 128):
                await house.publish([queued(n) for n in range(start, start + 128)])
            await house.publish([queued(1 << 16, input=b'{"n":5}')], "count")
            results = await house.ended(2049, 60)
            outputs = {r.execution: r.output for r in results}
            assert len(results) == len(outputs) == 2049
            assert all(outputs[n] == b"%d" % (2 * n) for n in range(2048))
            assert outputs[1 << 16] == b'{"steps":5}'
            chunks = [stored async for stored in house.queue.scan(CHUNKS, "chunks.1")]
            assert chunks

            async def acked() -> bool:
                return [s async for s in house.queue.scan(TASKS, "tasks.*")] == []

            await eventually(acked)

    scenario()


def test_a_killed_queue_loses_no_task(nats: NatsServer, authority: TestAuthority) -> None:
    """SIGKILL of nats-server in the middle: every task has one result in the end."""

    @in_loop
    async def scenario() -> None:
        async with executor(nats, authority) as (house, port), working(authority, port):
            for start in range(0, 1024, 32):
                await house.publish([queued(n) for n in range(start, start + 32)])
                if start == 512:
                    nats.kill()
                    await eventually(lambda: not house.queue.connected)
                    await asyncio.to_thread(nats.start)

            async def all_ended() -> bool:
                # A frame whose ack was lost comes again: the engine drops doubles.
                return {r.execution for r in await house.results()} == set(range(1024))

            await eventually(all_ended)

    scenario()


def test_errors_reach_the_service_as_status(nats: NatsServer, authority: TestAuthority) -> None:
    async def refused(stem: str, port: int, *messages: pb.ConnectRequest) -> grpc.aio.AioRpcError:
        async with channel(authority, port, stem) as open_channel:
            stub = executor_service_pb2_grpc.ExecutorServiceStub(open_channel)
            call = stub.Connect(timeout=60)
            with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                for message in messages:
                    await call.write(message)
            try:
                while await call.read() is not grpc.aio.EOF:
                    continue
                code, text = await call.code(), await call.details()
            except grpc.aio.AioRpcError as error:
                return error
            raise AssertionError(f"ended with {code}: {text}")

    @in_loop
    async def scenario() -> None:
        hello = pb.Hello(
            protocol_version=1, instance_id="i1", credit=1, components=[contract("echo")]
        )
        other = pb.Hello()
        other.CopyFrom(hello)
        other.protocol_version = 9
        async with executor(nats, authority) as (_, port):
            error = await refused("component-echo", port, pb.ConnectRequest(drain=pb.Drain()))
            assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert details(error)[0] == "PROTOCOL_VIOLATION"
            error = await refused("component-echo", port, pb.ConnectRequest(hello=other))
            assert error.code() == grpc.StatusCode.FAILED_PRECONDITION
            assert details(error)[0] == "PROTOCOL_MISMATCH"
            error = await refused("user-ada", port)
            assert error.code() == grpc.StatusCode.PERMISSION_DENIED
            twice = pb.ConnectRequest(hello=hello)
            error = await refused("component-echo", port, twice, twice)
            assert details(error)[0] == "PROTOCOL_VIOLATION"

    scenario()
