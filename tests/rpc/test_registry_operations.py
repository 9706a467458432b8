"""Deprecation, compatibility, weights and drains over gRPC: what they answer and whom they tell."""

import asyncio
import contextlib

import grpc
import pytest

from bend.internal.v1 import control_pb2
from bend.v1 import registry_service_pb2 as pb
from bend_server.ports.queue import ASK_ANNOUNCE, DRAIN
from bend_server.registry.policies import ANNOUNCE
from tests.kit.certificates import TestAuthority
from tests.kit.loops import eventually, in_loop
from tests.registry.test_instances import announcement
from tests.rpc.door import details
from tests.rpc.test_registry_service import Room, room

CLOSED = b'{"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}'
OPENED = b'{"type": "object", "properties": {"a": {"type": "string"}}}'


@contextlib.contextmanager
def refused(code: grpc.StatusCode, reason: str):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        yield caught
    assert (caught.value.code(), details(caught.value)[0]) == (code, reason)


class Engine:
    """What engines hear: the policies of default/a.b."""

    def __init__(self) -> None:
        self.said: list[control_pb2.Policies] = []

    async def hear(self, data: bytes) -> None:
        message = control_pb2.InstanceAnnouncement.FromString(data)
        if message.HasField("policies"):
            self.said.append(message.policies)

    async def heard(self, weights: dict[str, int], deprecated: list[str], *, whole: bool) -> None:
        def came() -> bool:
            return any(
                said.whole == whole
                and [(dict(one.weights), list(one.deprecated)) for one in said.components]
                == ([(weights, deprecated)] if weights or deprecated or not whole else [])
                for said in self.said
            )

        await eventually(came)
        self.said.clear()


async def engine(it: Room) -> Engine:
    made = Engine()
    await it.queue.subscribe(ANNOUNCE, made.hear)
    return made


@in_loop
async def test_deprecations_are_stored_and_told(authority: TestAuthority) -> None:
    async with room(authority, "bench") as it:
        listening = await engine(it)
        await it.register("a.b", "1.0.0")
        await it.register("a.b", "1.1.0")
        request = pb.DeprecateComponentVersionRequest(name="a.b", version="1.0.0")
        for _ in range(2):
            answer = await it.stub.DeprecateComponentVersion(request, timeout=30)
            assert answer.version.deprecated
            await listening.heard({}, ["1.0.0"], whole=False)
        shown = await it.stub.ListComponentVersions(pb.ListComponentVersionsRequest(name="a.b"))
        assert [one.deprecated for one in shown.versions] == [False, True]
        await it.queue.broadcast(ASK_ANNOUNCE, b"")
        await listening.heard({}, ["1.0.0"], whole=True)
        request.restore = True
        answer = await it.stub.DeprecateComponentVersion(request, timeout=30)
        assert not answer.version.deprecated
        await listening.heard({}, [], whole=False)
        request.version = "9.0.0"
        with refused(grpc.StatusCode.NOT_FOUND, "COMPONENT_NOT_FOUND"):
            await it.stub.DeprecateComponentVersion(request, timeout=30)


@in_loop
async def test_weights_are_stored_and_told(authority: TestAuthority) -> None:
    async with room(authority, "bench") as it:
        listening = await engine(it)
        await it.register("a.b", "1.0.0")
        await it.register("a.b", "2.0.0")
        request = pb.SetComponentWeightsRequest(name="a.b")
        request.weights.add(version="1.0.0", weight=95)
        request.weights.add(version="2.0.0", weight=5)
        answer = await it.stub.SetComponentWeights(request, timeout=30)
        assert [(one.version, one.weight) for one in answer.weights] == [
            ("2.0.0", 5),
            ("1.0.0", 95),
        ]
        await listening.heard({"1.0.0": 95, "2.0.0": 5}, [], whole=False)
        shown = await it.stub.GetComponent(pb.GetComponentRequest(name="a.b"), timeout=30)
        assert shown.weights == answer.weights
        unknown = pb.SetComponentWeightsRequest(name="a.b")
        unknown.weights.add(version="3.0.0", weight=1)
        with refused(grpc.StatusCode.NOT_FOUND, "COMPONENT_NOT_FOUND"):
            await it.stub.SetComponentWeights(unknown, timeout=30)
        for wrong in ([("1.0.0", 0)], [("1.0.0", 1), ("1.0.0", 2)], [("1.0.0", 10_001)]):
            bad = pb.SetComponentWeightsRequest(name="a.b")
            for version, weight in wrong:
                bad.weights.add(version=version, weight=weight)
            with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"):
                await it.stub.SetComponentWeights(bad, timeout=30)
        assert not listening.said
        none = await it.stub.SetComponentWeights(pb.SetComponentWeightsRequest(name="a.b"))
        assert not none.weights
        await listening.heard({}, [], whole=False)


@in_loop
async def test_a_breaking_release_is_refused_within_its_major(authority: TestAuthority) -> None:
    async with room(authority, "bench") as it:
        await it.register("a.b", "1.0.0", input_schema=OPENED)
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "CONTRACT_MISMATCH") as caught:
            await it.register("a.b", "1.1.0", input_schema=CLOSED)
        _, metadata, _ = details(caught.value)
        assert metadata["base"] == "1.0.0"
        assert "$.input.a has to be given now" in metadata["changes"]
        assert "raise the major version" in str(caught.value.details())
        assert (await it.register("a.b", "2.0.0", input_schema=CLOSED)).created
        assert (await it.register("a.b", "2.1.0", input_schema=OPENED)).created
        # A version that was a mistake binds nobody once it is deprecated.
        await it.stub.DeprecateComponentVersion(
            pb.DeprecateComponentVersionRequest(name="a.b", version="2.1.0"), timeout=30
        )
        assert (await it.register("a.b", "2.2.0", input_schema=CLOSED)).created
        # 0.x promises nothing.
        assert (await it.register("c.d", "0.1.0", input_schema=OPENED)).created
        assert (await it.register("c.d", "0.2.0", input_schema=CLOSED)).created


@in_loop
async def test_contracts_are_compared_before_they_are_registered(authority: TestAuthority) -> None:
    async with room(authority, "bench") as it:
        await it.register("a.b", "1.0.0", input_schema=OPENED)
        request = pb.CheckCompatibilityRequest(name="a.b")
        alone = await it.stub.CheckCompatibility(request, timeout=30)
        assert (alone.compatible, alone.base_version, alone.version) == (True, "", "1.0.0")
        request.contract.name, request.contract.version = "a.b", "1.1.0"
        request.contract.input_schema = CLOSED
        found = await it.stub.CheckCompatibility(request, timeout=30)
        assert (found.compatible, found.base_version, found.version) == (False, "1.0.0", "1.1.0")
        (change,) = found.changes
        assert change.kind == pb.ContractChange.INPUT_REQUIRED
        assert (change.path, change.breaking) == ("$.input.a", True)
        await it.register("a.b", "2.0.0", input_schema=CLOSED)
        stored = await it.stub.CheckCompatibility(
            pb.CheckCompatibilityRequest(name="a.b", version="2.0.0"), timeout=30
        )
        assert (stored.compatible, stored.base_version) == (False, "1.0.0")
        back = await it.stub.CheckCompatibility(
            pb.CheckCompatibilityRequest(name="a.b", version="1.0.0", base_version="2.0.0"),
            timeout=30,
        )
        assert (back.compatible, [one.breaking for one in back.changes]) == (True, [False])
        request.contract.name = "c.d"
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"):
            await it.stub.CheckCompatibility(request, timeout=30)
        missing = pb.CheckCompatibilityRequest(name="a.b", base_version="7.0.0")
        with refused(grpc.StatusCode.NOT_FOUND, "COMPONENT_NOT_FOUND"):
            await it.stub.CheckCompatibility(missing, timeout=30)


class Executor:
    """Announces one instance, and drains it when it is told to."""

    def __init__(self, it: Room, *, deaf: int = 0) -> None:
        self.it = it
        self.deaf = deaf
        self.draining = False
        self.notices = 0
        self._sequence = 0

    async def announce(self) -> None:
        self._sequence += 1
        said = announcement(sequence=self._sequence)
        said.groups[0].instances[0].draining = self.draining
        await self.it.queue.broadcast(ANNOUNCE, said.SerializeToString())

    async def hear(self, data: bytes) -> None:
        self.notices += 1
        if self.notices > self.deaf:
            self.draining = control_pb2.DrainNotice.FromString(data).drain
            await self.announce()


@in_loop
async def test_a_drain_returns_once_the_executor_has_confirmed(authority: TestAuthority) -> None:
    async with room(authority, "bench") as it:
        executor = Executor(it, deaf=1)
        await it.queue.subscribe(DRAIN, executor.hear)
        await it.register("a.b")
        request = pb.DrainInstanceRequest(instance_id="i1")
        with refused(grpc.StatusCode.NOT_FOUND, "INSTANCE_NOT_FOUND"):
            await it.stub.DrainInstance(request, timeout=30)
        await executor.announce()
        listed = pb.ListInstancesRequest(name="a.b")

        async def live() -> bool:
            return bool((await it.stub.ListInstances(listed, timeout=30)).instances)

        await eventually(live)
        for restore in (False, False, True):
            request.restore = restore
            answer = await it.stub.DrainInstance(request, timeout=30)
            assert [one.draining for one in answer.instances] == [not restore]
            shown = await it.stub.ListInstances(listed, timeout=30)
            assert [one.draining for one in shown.instances] == [not restore]


@in_loop
async def test_an_executor_that_forgot_a_drain_is_told_again(authority: TestAuthority) -> None:
    """It has started anew, or the instance went to another one."""
    async with room(authority, "bench") as it:
        executor = Executor(it)
        await it.queue.subscribe(DRAIN, executor.hear)
        await executor.announce()
        request = pb.DrainInstanceRequest(instance_id="i1")

        async def drained() -> bool:
            with contextlib.suppress(grpc.aio.AioRpcError):
                await it.stub.DrainInstance(request, timeout=30)
            return executor.draining

        await eventually(drained)
        executor.draining = False
        await executor.announce()
        await eventually(lambda: executor.draining)


@in_loop
async def test_a_drain_that_nobody_confirms_says_so(
    authority: TestAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bend_server.registry.drains.CONFIRM_S", 0.2)
    async with room(authority, "bench") as it:
        await Executor(it).announce()
        request = pb.DrainInstanceRequest(instance_id="i1")

        async def code() -> grpc.StatusCode:
            try:
                await it.stub.DrainInstance(request, timeout=30)
            except grpc.aio.AioRpcError as error:
                return error.code()
            return grpc.StatusCode.OK

        async def unconfirmed() -> bool:
            return await code() == grpc.StatusCode.UNAVAILABLE

        async with asyncio.timeout(20):
            await eventually(unconfirmed)
