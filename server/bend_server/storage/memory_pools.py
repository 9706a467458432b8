"""Records of pools, in memory: for the simulation and tests."""

from bend_server.ports.pools import PoolChange, PoolRow
from bend_server.storage.memory import MemoryDatabase


class MemoryPoolStore:
    """`ports.pools.PoolStore` over a `MemoryDatabase`."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._db = database

    async def pools(self) -> list[PoolRow]:
        """Return all rows."""
        return [row for _, row in sorted(self._db.pools.items())]

    async def change_pool(
        self, namespace: str, name: str, change: PoolChange, now_us: int
    ) -> tuple[bytes | None, bool]:
        """Read, change and write one row."""
        known = self._db.pools.get((namespace, name))
        before = None if known is None else known.spec
        after = change(before)
        if after == before:
            return after, False
        if after is None:
            del self._db.pools[namespace, name]
        else:
            self._db.pools[namespace, name] = PoolRow(namespace, name, after, now_us)
        return after, True
