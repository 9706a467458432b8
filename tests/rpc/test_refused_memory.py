"""What was refused is forgotten at once: a collection of cycles may be long in coming."""

import gc

import grpc

from bend.v1 import engine_service_pb2 as pb
from bend_server.core.errors import DomainError
from bend_server.registry.registry import Registry
from bend_server.rpc.engine_service import engine_service
from bend_server.rpc.registry_service import registry_service
from tests.kit.certificates import TestAuthority
from tests.kit.loops import eventually, in_loop
from tests.rpc.door import channel, serving
from tests.rpc.engine_room import engine_room
from tests.rpc.test_every_rpc import METHODS, code_of, empty, garbled

CALLS = 5


def held() -> list[BaseException]:
    """Return the errors that are still there; each holds the request that it came from."""
    kinds = (DomainError, grpc.aio.AbortError, ValueError)
    return [one for one in gc.get_objects() if isinstance(one, kinds)]


@in_loop
async def test_refused_requests_are_forgotten(authority: TestAuthority) -> None:
    async with engine_room(authority) as it:
        registry = Registry(it.stores.registry, it.queue, it.clock)
        services = [engine_service(it.rooms()), registry_service(registry)]
        async with (
            serving(authority, services) as server,
            channel(authority, server.port, "gateway") as target,
        ):
            gc.collect()
            gc.disable()
            try:
                before = len(held())
                for method in sorted(METHODS):
                    await code_of(target, method, garbled(method), "/user/ada")
                    await code_of(target, method, empty(method), "/user/ada")
                large = pb.RunWorkflowRequest()
                large.start.workflow = "chain"
                large.start.parameters = b'{"text":"' + b"x" * (2 << 20) + b'"}'
                for _ in range(CALLS):
                    code = await code_of(
                        target, "/bend.v1.EngineService/RunWorkflow", large, "/user/ada"
                    )
                    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
                # The library keeps the last call until the next one comes.
                await eventually(lambda: len(held()) <= before + 1)
            finally:
                gc.enable()
