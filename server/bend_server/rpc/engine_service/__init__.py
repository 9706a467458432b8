"""EngineService: workflows and executions, split by family."""

from bend.v1 import engine_service_pb2, engine_service_pb2_grpc
from bend_server.rpc.engine_service.control import ControlRpcs
from bend_server.rpc.engine_service.decisions import DecisionRpcs
from bend_server.rpc.engine_service.reads import ReadRpcs
from bend_server.rpc.engine_service.starts import Starter, StartRpcs
from bend_server.rpc.engine_service.watches import WatchRpcs
from bend_server.rpc.engine_service.workflows import WorkflowRpcs
from bend_server.rpc.rooms import Rooms
from bend_server.rpc.server import Service, service


class EngineService(
    WorkflowRpcs,
    StartRpcs,
    ReadRpcs,
    WatchRpcs,
    ControlRpcs,
    DecisionRpcs,
    engine_service_pb2_grpc.EngineServiceServicer,
):
    """Serves every RPC of bend.v1.EngineService.

    Args:
        rooms: what it works with.
    """

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self._starter = Starter(rooms)


def engine_service(rooms: Rooms) -> Service:
    """Return EngineService, ready to be served."""
    return service(
        engine_service_pb2.DESCRIPTOR.services_by_name["EngineService"],
        engine_service_pb2_grpc.add_EngineServiceServicer_to_server,
        EngineService(rooms),
    )


__all__ = ["EngineService", "Rooms", "engine_service"]
