"""The RPCs of pools: who may call them, paging, and the errors that come over the wire."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from bend.internal.v1 import pool_service_pb2, pool_service_pb2_grpc
from bend.v1 import executor_service_pb2 as pb
from bend.v1 import executor_service_pb2_grpc, pool_pb2
from bend_server.executor.pools.configuration import FollowedPools
from bend_server.executor.pools.desk import Desk
from bend_server.executor.pools.warden import Warden
from bend_server.queue.broker import MemoryBroker
from bend_server.queue.memory import MemoryQueue
from bend_server.registry.pools import Pools
from bend_server.rpc.connect import executor_service
from bend_server.rpc.pool_registry import pool_registry_service
from bend_server.rpc.registrar import RegistryClient
from bend_server.storage.memory import MemoryDatabase
from bend_server.storage.memory_pools import MemoryPoolStore
from bend_server.telemetry.clock import SystemChance, SystemClock
from tests.kit.certificates import TestAuthority
from tests.kit.fakes.pools import FakeDriver, described
from tests.kit.loops import in_loop
from tests.rpc.door import channel, details, serving

FILE = """
api_drivers: [process]
pools:
  - {name: mine, component: example.slow, process: {command: [x]}, max_instances: 3}
"""
ADA = [("x-bend-peer", "spiffe://bend.local/user/ada")]


class Door:
    """Calls as the gateway makes them for somebody."""

    def __init__(self, target: grpc.aio.Channel) -> None:
        self._stub = executor_service_pb2_grpc.ExecutorServiceStub(target)

    async def call(self, name: str, request: Any, who: str = "/user/ada") -> Any:
        metadata = [("x-bend-peer", f"spiffe://bend.local{who}")]
        return await getattr(self._stub, name)(request, metadata=metadata, timeout=30)

    async def refusal(self, name: str, request: Any, who: str = "/user/ada") -> tuple[Any, str]:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.call(name, request, who)
        return caught.value.code(), details(caught.value)[0]


@contextlib.asynccontextmanager
async def door(authority: TestAuthority, folder: Path) -> AsyncIterator[Door]:
    """Serve a registry, and an executor that has its pools from it over mutual TLS."""
    file = folder / "pools.yaml"
    file.write_text(FILE)
    clock = SystemClock()
    pools = Pools(MemoryPoolStore(MemoryDatabase(clock)), clock)
    async with serving(authority, [pool_registry_service(pools)], role="registry") as registry:
        client = RegistryClient(
            f"127.0.0.1:{registry.port}",
            server_name="localhost",
            certificate=authority.folder / "executor.pem",
            key=authority.folder / "executor.key",
            roots=authority.ca,
        )
        warden = Warden(
            MemoryQueue(MemoryBroker()),
            clock,
            SystemChance(),
            client,
            FollowedPools(file, "default"),
            lambda kind: FakeDriver(),
            name="x1",
            seat="x1",
        )
        await warden.start()
        services = [executor_service(Unserved(), Desk(warden))]
        async with (
            serving(authority, services, role="executor") as server,
            channel(authority, server.port, "gateway") as target,
        ):
            yield Door(target)
        await warden.stop()
        await client.close()


class Unserved:
    """No streams are opened here."""

    async def attach(self, link: object) -> None:
        raise AssertionError("nobody connects")


@in_loop
async def test_pools_are_listed_in_pages_and_live_over_the_wire(
    authority: TestAuthority, tmp_path: Path
) -> None:
    async with door(authority, tmp_path) as it:
        for name in ("b", "a"):
            stored = await it.call("PutPool", pb.PutPoolRequest(name=name, pool=described(name)))
            assert (stored.pool.name, stored.changed) == (name, True)
        first = await it.call("ListPools", pb.ListPoolsRequest(page_size=2))
        assert [one.pool.name for one in first.pools] == ["a", "b"]
        rest = await it.call("ListPools", pb.ListPoolsRequest(page_token=first.next_page_token))
        assert [one.pool.name for one in rest.pools] == ["mine"]
        assert rest.pools[0].source == pool_pb2.PoolStatus.CONFIGURATION
        assert rest.next_page_token == ""
        nameless = described("")
        put = await it.call("PutPool", pb.PutPoolRequest(name="a", pool=nameless))
        assert (put.pool.name, put.changed) == ("a", False)
        held = await it.call("ScalePool", pb.ScalePoolRequest(name="mine", instances=0))
        assert held.status.HasField("held_instances")
        stats = await it.call("GetPoolStats", pb.GetPoolStatsRequest(name="mine"))
        assert stats.status.held_instances == 0
        await it.call("DeletePool", pb.DeletePoolRequest(name="a"))
        left = await it.call("ListPools", pb.ListPoolsRequest())
        assert [one.pool.name for one in left.pools] == ["b", "mine"]


@in_loop
async def test_errors_have_their_codes_and_reasons(
    authority: TestAuthority, tmp_path: Path
) -> None:
    codes = grpc.StatusCode
    async with door(authority, tmp_path) as it:
        wrong = [
            ("GetPoolStats", pb.GetPoolStatsRequest(name="no"), codes.NOT_FOUND, "POOL_NOT_FOUND"),
            ("ScalePool", pb.ScalePoolRequest(name="no"), codes.NOT_FOUND, "POOL_NOT_FOUND"),
            ("DeletePool", pb.DeletePoolRequest(name="no"), codes.NOT_FOUND, "POOL_NOT_FOUND"),
            (
                "DeletePool",
                pb.DeletePoolRequest(name="mine"),
                codes.FAILED_PRECONDITION,
                "WRONG_STATE",
            ),
            (
                "ScalePool",
                pb.ScalePoolRequest(name="mine", instances=4),
                codes.INVALID_ARGUMENT,
                "INVALID_REQUEST",
            ),
            (
                "PutPool",
                pb.PutPoolRequest(name="x", pool=described("x", docker={"image": "x:latest"})),
                codes.INVALID_ARGUMENT,
                "INVALID_REQUEST",
            ),
            (
                "PutPool",
                pb.PutPoolRequest(
                    name="x", pool=described("x", docker={"image": "x@sha256:" + "0" * 64})
                ),
                codes.PERMISSION_DENIED,
                "PERMISSION_DENIED",
            ),
            (
                "ListPools",
                pb.ListPoolsRequest(page_token="x"),
                codes.INVALID_ARGUMENT,
                "INVALID_PAGE_TOKEN",
            ),
            ("PutPool", pb.PutPoolRequest(name="x"), codes.INVALID_ARGUMENT, "INVALID_REQUEST"),
        ]
        for method, request, code, reason in wrong:
            assert await it.refusal(method, request) == (code, reason), (method, request)


@in_loop
async def test_only_people_may_change_pools(authority: TestAuthority, tmp_path: Path) -> None:
    async with door(authority, tmp_path) as it:
        component = "/component/vision"
        assert (await it.call("ListPools", pb.ListPoolsRequest(), component)).pools
        changes = (
            ("PutPool", pb.PutPoolRequest(name="x", pool=described("x"))),
            ("ScalePool", pb.ScalePoolRequest(name="mine", instances=1)),
            ("DeletePool", pb.DeletePoolRequest(name="mine")),
        )
        for method, request in changes:
            refused = (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")
            assert await it.refusal(method, request, component) == refused


@pytest.mark.parametrize("stem", ["engine", "gateway", "component-vision"])
@in_loop
async def test_only_executors_reach_the_registrys_side(authority: TestAuthority, stem: str) -> None:
    clock = SystemClock()
    pools = Pools(MemoryPoolStore(MemoryDatabase(clock)), clock)
    async with (
        serving(authority, [pool_registry_service(pools)], role="registry") as server,
        channel(authority, server.port, stem) as target,
    ):
        stub = pool_service_pb2_grpc.PoolServiceStub(target)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.SyncPools(pool_service_pb2.SyncPoolsRequest(), metadata=ADA, timeout=30)
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
