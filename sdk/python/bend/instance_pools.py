"""The client's calls about pools of component instances, and what they answer."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from google.protobuf import json_format

from bend.channel import Channel
from bend.errors import InvalidRequest
from bend.v1 import executor_service_pb2 as pb
from bend.v1 import executor_service_pb2_grpc, pool_pb2

PAGE_MAX = 1000


@dataclass(frozen=True)
class PoolInstanceInfo:
    """One instance; `cpu` in processors, memory in bytes, `state` STARTING, READY or DRAINING."""

    name: str
    state: str
    place: str
    started_at: datetime
    cpu: float
    memory_bytes: int
    credit: int
    in_flight: int


@dataclass(frozen=True)
class PoolInfo:
    """A pool and what runs of it; `document` is all of it as REST shows it.

    `state`: UNMANAGED, ACTIVE, CRASH_LOOP, BROKEN or STOPPING; `held` is None while it follows the
    demand.
    """

    name: str
    component: str
    driver: str
    state: str
    reason: str
    wanted: int
    least: int
    most: int
    held: int | None
    waiting: int
    open: int
    instances: list[PoolInstanceInfo]
    document: Mapping[str, Any]

    @property
    def ready(self) -> int:
        """How many instances are connected and take tasks."""
        return sum(one.state == "READY" for one in self.instances)

    @classmethod
    def of(cls, status: pool_pb2.PoolStatus, stats: pool_pb2.PoolStats | None = None) -> "PoolInfo":
        """Read a message."""
        pool = status.pool
        document = as_document(status)
        if stats is not None:
            document["stats"] = as_document(stats)
        return cls(
            name=pool.name,
            component=pool.component,
            driver=pool.WhichOneof("driver") or "",
            state=pool_pb2.PoolStatus.State.Name(status.state),
            reason=status.reason,
            wanted=status.wanted,
            least=pool.min_instances,
            most=pool.max_instances or 1,
            held=status.held_instances if status.HasField("held_instances") else None,
            waiting=status.waiting_tasks,
            open=status.open_tasks,
            instances=[_instance(one) for one in status.instances],
            document=document,
        )

    def as_json(self) -> Mapping[str, Any]:
        """Return what `--json` prints: the fields of bend.v1.PoolStatus."""
        return self.document


def _instance(one: pool_pb2.PoolInstance) -> PoolInstanceInfo:
    return PoolInstanceInfo(
        name=one.name,
        state=pool_pb2.PoolInstance.State.Name(one.state),
        place=one.place,
        started_at=one.start_time.ToDatetime(tzinfo=UTC),
        cpu=one.cpu,
        memory_bytes=one.memory_bytes,
        credit=one.credit,
        in_flight=one.in_flight,
    )


def as_document(message: Any) -> dict[str, Any]:
    """Return a message as JSON values, under its fields' own names."""
    found: dict[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return found


def read_pool(document: Any) -> pool_pb2.Pool:
    """Read the description of a pool: a dict, a path, or text in YAML or JSON.

    Raises InvalidRequest.
    """
    source = ""
    if isinstance(document, Path):
        source = str(document)
        document = document.read_text(encoding="utf-8")
    place = f"{source}: " if source else ""
    pool = pool_pb2.Pool()
    try:
        values = yaml.safe_load(document) if isinstance(document, str | bytes) else document
        if isinstance(values, Mapping):
            json_format.ParseDict(dict(values), pool)
            return pool
    except (yaml.YAMLError, json_format.ParseError) as error:
        raise InvalidRequest(f"{place}{error}", reason="INVALID_REQUEST") from error
    raise InvalidRequest(f"{place}a pool is a map", reason="INVALID_REQUEST")


class Pools:
    """Pools over one channel; part of `Client`."""

    _channel: Channel

    def _pools(self) -> Any:
        return self._channel.stub(executor_service_pb2_grpc.ExecutorServiceStub)

    async def list_pools(self) -> list[PoolInfo]:
        """List the pools with their instances, by name."""
        found: list[PoolInfo] = []
        token = ""
        while True:
            answer = await self._channel.call(
                self._pools().ListPools,
                pb.ListPoolsRequest(page_size=PAGE_MAX, page_token=token),
            )
            found += [PoolInfo.of(one) for one in answer.pools]
            token = answer.next_page_token
            if not token:
                return found

    async def get_pool(self, name: str) -> PoolInfo:
        """Read one pool; its document has `stats` with counters and samples. Raises NotFound."""
        answer = await self._channel.call(
            self._pools().GetPoolStats, pb.GetPoolStatsRequest(name=name)
        )
        return PoolInfo.of(answer.status, answer.stats)

    async def put_pool(self, document: Any, *, name: str = "") -> bool:
        """Store a pool; return whether that changed anything. Idempotent.

        Args:
            document: a dict, a path, or text in YAML or JSON: the fields of bend.v1.Pool.
            name: the pool's, when the document has none.

        Raises InvalidRequest; PermissionDenied when the operator does not allow the driver;
        WrongState when the operator's own file describes the pool.
        """
        pool = read_pool(document)
        answer = await self._channel.call(
            self._pools().PutPool, pb.PutPoolRequest(name=name or pool.name, pool=pool)
        )
        return bool(answer.changed)

    async def scale_pool(self, name: str, instances: int | None) -> PoolInfo:
        """Hold a pool at a number of instances; None: it follows the demand again.

        Raises NotFound; InvalidRequest above the pool's most.
        """
        request = pb.ScalePoolRequest(name=name, instances=instances)
        answer = await self._channel.call(self._pools().ScalePool, request)
        return PoolInfo.of(answer.status)

    async def delete_pool(self, name: str) -> None:
        """Delete a pool; its instances finish what they hold. Raises NotFound, WrongState."""
        await self._channel.call(self._pools().DeletePool, pb.DeletePoolRequest(name=name))
