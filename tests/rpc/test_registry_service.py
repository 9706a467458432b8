"""If these fail, components cannot register, or people see the wrong ones."""

import contextlib
from collections.abc import AsyncIterator

import grpc
import pytest

from bend.v1 import registry_service_pb2 as pb
from bend.v1 import registry_service_pb2_grpc
from bend_server.queue.broker import MemoryBroker
from bend_server.queue.memory import MemoryQueue
from bend_server.registry.policies import ANNOUNCE
from bend_server.registry.registry import Registry
from bend_server.rpc.registry_service import registry_service
from bend_server.storage.memory import MemoryDatabase
from bend_server.storage.stores import memory_stores
from tests.kit.backends import ManualClock
from tests.kit.certificates import TestAuthority
from tests.kit.loops import eventually, in_loop
from tests.registry.test_instances import announcement
from tests.rpc.door import channel, details, serving


class Room:
    def __init__(self, stub, queue: MemoryQueue, time: ManualClock, port: int) -> None:
        self.stub = stub
        self.queue = queue
        self.time = time
        self.port = port

    async def register(self, name: str, version: str = "1.0.0", **fields: object):
        request = pb.RegisterComponentRequest()
        request.contract.name, request.contract.version = name, version
        for key, value in fields.items():
            setattr(request.contract, key, value)
        return await self.stub.RegisterComponent(request, timeout=30)


@contextlib.asynccontextmanager
async def room(authority: TestAuthority, stem: str = "executor") -> AsyncIterator[Room]:
    time, queue = ManualClock(), MemoryQueue(MemoryBroker())
    stores = memory_stores(MemoryDatabase(time))
    registry = Registry(stores.registry, queue, time)
    await registry.start()
    async with (
        serving(authority, [registry_service(registry)], role="registry") as server,
        channel(authority, server.port, stem) as target,
    ):
        stub = registry_service_pb2_grpc.RegistryServiceStub(target)
        yield Room(stub, queue, time, server.port)
    await registry.stop()
    await queue.close()


@in_loop
async def test_a_version_is_stored_once_and_never_changed(authority: TestAuthority) -> None:
    async with room(authority) as it:
        first = await it.register("vision.detect", input_schema=b'{"type": "object"}')
        assert first.created
        assert first.version.contract.input_schema == b'{"type": "object"}'
        again = await it.register(
            "vision.detect", input_schema=b'{"type":"object"}', description="now with words"
        )
        assert not again.created
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await it.register("vision.detect", input_schema=b'{"type": "array"}')
        assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert details(caught.value)[0] == "CONTRACT_MISMATCH"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"input_schema": b"{"}, "contract.input_schema"),
        ({"output_schema": b'{"type": 4}'}, "contract.output_schema.type"),
        ({"version": "1.0"}, "contract.version"),
        ({"name": "Upper"}, "contract.name"),
    ],
)
@in_loop
async def test_a_wrong_contract_names_its_field(
    authority: TestAuthority, fields: dict[str, object], field: str
) -> None:
    async with room(authority) as it:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await it.register(str(fields.pop("name", "a")), **fields)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        reason, metadata, _ = details(caught.value)
        assert (reason, metadata["field"]) == ("INVALID_REQUEST", field)


@in_loop
async def test_components_are_searched_and_paged(authority: TestAuthority) -> None:
    async with room(authority) as it:
        for number in range(5):
            await it.register(f"part.p{number}", description="Finds faces" if number % 2 else "")
        await it.register("part.p0", "2.0.0")
        page = await it.stub.ListComponents(pb.ListComponentsRequest(page_size=2), timeout=30)
        assert [entry.name for entry in page.components] == ["part.p0", "part.p1"]
        assert page.components[0].latest_version == "2.0.0"
        assert page.components[0].version_count == 2
        names = []
        token = page.next_page_token
        while token:
            request = pb.ListComponentsRequest(page_size=2, page_token=token)
            page = await it.stub.ListComponents(request, timeout=30)
            names += [entry.name for entry in page.components]
            token = page.next_page_token
        assert names == ["part.p2", "part.p3", "part.p4"]
        found = await it.stub.ListComponents(pb.ListComponentsRequest(query="FACES"), timeout=30)
        assert [entry.name for entry in found.components] == ["part.p1", "part.p3"]


@in_loop
async def test_a_token_of_another_list_is_refused(authority: TestAuthority) -> None:
    async with room(authority) as it:
        for name in ("a", "b", "c"):
            await it.register(name)
        page = await it.stub.ListComponents(pb.ListComponentsRequest(page_size=1), timeout=30)
        for request in (
            pb.ListComponentsRequest(page_token=page.next_page_token, query="a"),
            pb.ListComponentsRequest(page_token="garbage"),
            pb.ListComponentsRequest(page_token="ü"),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await it.stub.ListComponents(request, timeout=30)
            assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert details(caught.value)[0] == "INVALID_PAGE_TOKEN"


@in_loop
async def test_versions_are_listed_newest_first(authority: TestAuthority) -> None:
    async with room(authority) as it:
        for version in ("1.0.0", "1.10.0", "1.9.0"):
            await it.register("a", version)
        request = pb.ListComponentVersionsRequest(name="a", page_size=2)
        page = await it.stub.ListComponentVersions(request, timeout=30)
        assert [entry.contract.version for entry in page.versions] == ["1.10.0", "1.9.0"]
        request.page_token = page.next_page_token
        page = await it.stub.ListComponentVersions(request, timeout=30)
        assert [entry.contract.version for entry in page.versions] == ["1.0.0"]
        assert page.next_page_token == ""
        one = await it.stub.GetComponent(pb.GetComponentRequest(name="a", version="1.9.0"))
        assert one.version.contract.version == "1.9.0"
        assert one.component.latest_version == "1.10.0"
        for request in (
            pb.GetComponentRequest(name="b"),
            pb.GetComponentRequest(name="a", version="9.9.9"),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await it.stub.GetComponent(request, timeout=30)
            assert caught.value.code() == grpc.StatusCode.NOT_FOUND
            assert details(caught.value)[0] == "COMPONENT_NOT_FOUND"


@in_loop
async def test_live_instances_come_from_announcements(authority: TestAuthority) -> None:
    async with room(authority) as it:
        await it.register("a.b")
        await it.queue.broadcast(ANNOUNCE, b"\xff\xffgarbage")
        said = announcement(names=("i1", "i2"))
        await it.queue.broadcast(ANNOUNCE, said.SerializeToString())
        request = pb.ListInstancesRequest(name="a.b")

        async def heard() -> bool:
            return len((await it.stub.ListInstances(request, timeout=30)).instances) == 2

        await eventually(heard)
        found = await it.stub.ListInstances(request, timeout=30)
        assert [entry.instance_id for entry in found.instances] == ["i1", "i2"]
        assert found.instances[0].executor == "e1"
        one = await it.stub.GetComponent(pb.GetComponentRequest(name="a.b"), timeout=30)
        assert one.component.instance_count == 2
        it.time.now += 11_000_000
        found = await it.stub.ListInstances(pb.ListInstancesRequest(name="a.b"), timeout=30)
        assert not found.instances


@in_loop
async def test_only_executors_register_for_others(authority: TestAuthority) -> None:
    request = pb.RegisterComponentRequest(namespace="theirs")
    request.contract.name, request.contract.version = "a", "1.0.0"
    async with room(authority) as it:
        assert (await it.stub.RegisterComponent(request, timeout=30)).created
    async with room(authority, "bench") as it:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await it.stub.RegisterComponent(request, timeout=30)
        assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED
