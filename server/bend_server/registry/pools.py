"""Descriptions of pools in SQL, and which executor manages them: one lease for all pools."""

from bend.internal.v1 import pool_service_pb2 as pb
from bend_server.core import limits
from bend_server.core.errors import LimitExceeded, NotFound
from bend_server.ports.clock import Clock
from bend_server.ports.pools import PoolStore

# No pool has an empty name: the row is the lease's.
LEASE = ("", "")
RENEW_US = limits.POOL_LEASE_US // 3


class Pools:
    """The registry's side of pools.

    Args:
        store: where records and the lease rest.
        clock: the lease's time.
    """

    def __init__(self, store: PoolStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def sync(self, request: pb.SyncPoolsRequest) -> pb.SyncPoolsResponse:
        """Return all records; give, renew or end the caller's lease.

        The lease goes to whoever asks first when nobody holds it; the same seat takes its own
        over at once. It is written only when a third of it is used up, and only while pools are
        there at all.
        """
        rows = await self._store.pools()
        response = pb.SyncPoolsResponse()
        lease = pb.PoolLease()
        for row in rows:
            if (row.namespace, row.name) == LEASE:
                lease.ParseFromString(row.spec)
            else:
                response.records.append(pb.PoolRecord.FromString(row.spec))
        now_us = self._clock.now_us()
        if request.release or self._wants(request, response, lease, now_us):
            lease = await self._lease(request, now_us)
        response.holder = lease.executor if lease.expires_us > now_us else ""
        if lease.seat == request.seat and lease.expires_us > now_us:
            response.lease_ms = (lease.expires_us - now_us) // 1000
        return response

    def _wants(
        self,
        request: pb.SyncPoolsRequest,
        response: pb.SyncPoolsResponse,
        lease: pb.PoolLease,
        now_us: int,
    ) -> bool:
        if not (request.configured or response.records):
            return False
        if lease.seat == request.seat and lease.executor == request.executor:
            return lease.expires_us - now_us < limits.POOL_LEASE_US - RENEW_US
        return lease.seat == request.seat or lease.expires_us <= now_us

    async def _lease(self, request: pb.SyncPoolsRequest, now_us: int) -> pb.PoolLease:
        def change(stored: bytes | None) -> bytes | None:
            lease = pb.PoolLease.FromString(stored or b"")
            mine = lease.seat == request.seat
            if request.release:
                return None if mine and lease.executor == request.executor else stored
            if not mine and lease.expires_us > now_us:
                return stored
            return pb.PoolLease(
                seat=request.seat,
                executor=request.executor,
                expires_us=now_us + limits.POOL_LEASE_US,
            ).SerializeToString()

        stored, _ = await self._store.change_pool(*LEASE, change, now_us)
        return pb.PoolLease.FromString(stored or b"")

    async def change(self, request: pb.ChangePoolRequest) -> pb.ChangePoolResponse:
        """Change one record.

        Raises:
            NotFound: POOL_NOT_FOUND.
            LimitExceeded: as many pools as there may be are stored.
        """
        kind = request.WhichOneof("change")
        key = (request.namespace, request.name)
        if kind == "put":
            rows = await self._store.pools()
            others = {(row.namespace, row.name) for row in rows} - {key, LEASE}
            if len(others) >= limits.POOLS_MAX:
                raise LimitExceeded(f"{limits.POOLS_MAX} pools are stored", limit=limits.POOLS_MAX)

        def change(stored: bytes | None) -> bytes | None:
            if stored is None and kind != "put" and not request.configured:
                raise NotFound(
                    f"no pool {request.name!r}", reason="POOL_NOT_FOUND", pool=request.name
                )
            if kind == "remove":
                return None
            record = pb.PoolRecord.FromString(stored or b"")
            record.namespace, record.name = key
            if kind == "put":
                record.pool.CopyFrom(request.put)
            elif kind == "hold":
                record.held_instances = request.hold
            else:
                record.ClearField("held_instances")
                if not record.HasField("pool"):
                    return None
            return record.SerializeToString(deterministic=True)

        stored, changed = await self._store.change_pool(*key, change, self._clock.now_us())
        response = pb.ChangePoolResponse(changed=changed)
        if stored is not None:
            response.record.ParseFromString(stored)
        return response
