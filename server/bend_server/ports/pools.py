"""The registry as pools use it: descriptions in SQL, and the lease on managing them."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from bend.internal.v1 import pool_service_pb2


class PoolRow(NamedTuple):
    """A stored record; `spec` is a serialized PoolRecord, or the PoolLease of the row ("", "")."""

    namespace: str
    name: str
    spec: bytes
    updated_us: int


PoolChange = Callable[[bytes | None], bytes | None]
"""Takes what is stored (None: nothing) and returns what shall be (None: nothing)."""


class PoolStore(Protocol):
    """Records of pools."""

    async def pools(self) -> list[PoolRow]:
        """Return all rows by namespace and name."""
        ...

    async def change_pool(
        self, namespace: str, name: str, change: PoolChange, now_us: int
    ) -> tuple[bytes | None, bool]:
        """Read, change and write one row in one transaction; return it and whether it changed.

        `change` may be called again when two came at once. Raises what `change` raises.
        """
        ...


class PoolRegistry(Protocol):
    """The registry, for an executor. Raises DependencyDown when it cannot be reached."""

    async def sync_pools(
        self, request: pool_service_pb2.SyncPoolsRequest
    ) -> pool_service_pb2.SyncPoolsResponse:
        """Return all records, and the lease when it is the caller's."""
        ...

    async def change_pool(
        self, request: pool_service_pb2.ChangePoolRequest
    ) -> pool_service_pb2.ChangePoolResponse:
        """Change a record. Raises NotFound POOL_NOT_FOUND, LimitExceeded."""
        ...
