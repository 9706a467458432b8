"""Records of pools, in SQL that both databases run."""

from sqlalchemy import Connection, delete, insert, select, update

from bend_server.ports.pools import PoolChange, PoolRow
from bend_server.storage.database import Database
from bend_server.storage.tables import counter, pool

_ROWS = select(pool.c.namespace, pool.c.name, pool.c.spec, pool.c.updated_us)


class SqlPoolStore:
    """`ports.pools.PoolStore` over a SQL database."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def pools(self) -> list[PoolRow]:
        """Return all rows."""
        wanted = _ROWS.order_by(pool.c.namespace, pool.c.name)
        found = await self._db.query(lambda connection: connection.execute(wanted).all())
        return sorted(PoolRow(row[0], row[1], bytes(row[2]), row[3]) for row in found)

    async def change_pool(
        self, namespace: str, name: str, change: PoolChange, now_us: int
    ) -> tuple[bytes | None, bool]:
        """Read, change and write one row."""
        one = (pool.c.namespace == namespace, pool.c.name == name)

        def write(connection: Connection) -> tuple[bytes | None, bool]:
            # A row that is not there cannot be locked; this one always is, and changes are rare.
            connection.execute(
                select(counter.c.value).where(counter.c.name == "epoch").with_for_update()
            )
            found = connection.execute(select(pool.c.spec).where(*one)).scalar_one_or_none()
            before = None if found is None else bytes(found)
            after = change(before)
            if after == before:
                return after, False
            if after is None:
                connection.execute(delete(pool).where(*one))
            elif before is None:
                values = {"namespace": namespace, "name": name}
                connection.execute(insert(pool).values(**values, spec=after, updated_us=now_us))
            else:
                connection.execute(update(pool).where(*one).values(spec=after, updated_us=now_us))
            return after, True

        return await self._db.write(write)
