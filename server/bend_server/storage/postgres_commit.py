"""The group commit on PostgreSQL: one statement, one round trip, the fence inside.

Each part of a batch is a data-modifying CTE that selects from `fence`. `fence` is empty unless the
lease is valid by the server's clock and owns all partitions; then nothing is written. The lease's
row is locked for share: whoever voids the lease waits for this commit, or this commit sees it gone.
"""

import asyncio
from collections.abc import Sequence
from functools import partial

import asyncpg

from bend_server.core.errors import DomainError, InvariantBroken, LeaseLost
from bend_server.ports.clock import Clock
from bend_server.ports.store import Batch, Committed, Lease
from bend_server.storage.database import WRITE_S
from bend_server.storage.faults import judged
from bend_server.storage.postgres import PostgresDatabase
from bend_server.storage.postgres_extras import reopen, write_extras
from bend_server.storage.postgres_statement import statement
from bend_server.storage.postgres_values import Prepared, prepare
from bend_server.storage.sql_engine import SqlEngineStore

ATTEMPTS = 4
# The statement found its own checks contradicted, and divided by zero to undo itself.
_CONTRADICTED = "22012"
_DEADLOCK = "40"


class PostgresEngineStore(SqlEngineStore):
    """`ports.store.EngineStore` on PostgreSQL."""

    def __init__(self, database: PostgresDatabase, clock: Clock) -> None:
        super().__init__(database, clock)
        self._server = database
        self._turn = asyncio.Lock()

    async def give_partitions(self, lease: Lease, partitions: Sequence[int]) -> None:
        """Disown partitions; commits wait, because the hand-over changes their fence."""
        async with self._turn:
            await super().give_partitions(lease, partitions)

    async def commit(self, lease: Lease, partitions: frozenset[int], batch: Batch) -> Committed:
        """Write one batch, or nothing."""
        prepared = prepare(batch)
        async with self._turn:
            fence: list[object] = [
                lease.id,
                lease.epoch,
                self._gives.get(lease.id, 0),
                sorted(partitions),
                len(partitions),
            ]
            row = await self._run(prepared, fence, batch)
        if not row["fenced"]:
            raise LeaseLost(
                "the lease was taken over or has expired", lease=lease.id, epoch=lease.epoch
            )
        return Committed(frozenset(row["started"]))

    async def _run(self, prepared: Prepared, fence: list[object], batch: Batch) -> "asyncpg.Record":
        """Run the statement; again when it undid itself because another engine was faster.

        Two engines may insert one request id or one chosen name at the same time, or wait for each
        other's: then nothing was written, and the next try sees what the other has committed.
        """
        variant, values = prepared
        extras = batch.extras() > 0
        for attempt in range(ATTEMPTS):
            try:
                sql = statement(variant)
                if not extras:
                    return await self._server.statement(sql, [*fence, *values], WRITE_S)
                return await self._server.transaction(
                    partial(_with_extras, batch, sql, fence, values), WRITE_S
                )
            except asyncpg.PostgresError as error:
                fault: DomainError = judged(error)
                again = error.sqlstate == _CONTRADICTED or error.sqlstate.startswith(_DEADLOCK)
                if not again or attempt + 1 == ATTEMPTS:
                    raise fault from error
                if not variant.starts and error.sqlstate == _CONTRADICTED:
                    raise InvariantBroken(
                        "an execution to change is unknown or has ended"
                    ) from error
                variant = variant._replace(checked=variant.starts)
        raise InvariantBroken("the commit was tried too often")


async def _with_extras(
    batch: Batch,
    sql: str,
    fence: list[object],
    values: list[object],
    connection: "asyncpg.Connection",
) -> "asyncpg.Record":
    """Write a batch with rare rows, in the transaction of the connection."""
    if batch.reopens:
        # A refusal shows in the statement's own fence: the lease's row cannot come back.
        await reopen(connection, fence, batch.reopens)
    row = await connection.fetchrow(sql, *fence, *values)
    if row["fenced"]:
        started = set(row["started"])
        refused = {start.id for start in batch.starts if start.id not in started}
        await write_extras(connection, batch, refused)
    return row
