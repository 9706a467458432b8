"""Leases and ownership of partitions in SQL, as functions over a connection in a transaction.

Every change of ownership locks the row `counter.epoch` first, so changes happen one after the
other. A commit takes no part in that: it locks its own lease row for share, which makes whoever
voids that lease wait for it, or makes it see that the lease is gone.
"""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, and_, delete, insert, select, update

from bend_server.core.errors import LeaseLost, LimitExceeded
from bend_server.ports.store import Lease, PartitionOwner
from bend_server.storage.tables import counter, engine_lease, partition


def _serialize(connection: Connection) -> int:
    found = connection.execute(
        select(counter.c.value).where(counter.c.name == "epoch").with_for_update()
    )
    return int(found.scalar_one())


def _same(lease: Lease) -> ColumnElement[bool]:
    return and_(engine_lease.c.id == lease.id, engine_lease.c.epoch == lease.epoch)


def lost(lease: Lease) -> LeaseLost:
    """Return the error of a fence that refused."""
    return LeaseLost("the lease was taken over or has expired", lease=lease.id, epoch=lease.epoch)


def _disown_orphans(connection: Connection) -> None:
    connection.execute(
        update(partition)
        .where(
            partition.c.lease.is_not(None),
            partition.c.lease.not_in(select(engine_lease.c.id)),
        )
        .values(lease=None)
    )


def acquire(
    connection: Connection, engine: str, slots: int, ttl_us: int, now_us: int, *, alone: bool
) -> Lease:
    """Make a lease and void the expired ones; `alone` voids all."""
    epoch = max(_serialize(connection) + 1, now_us // 1_000_000)
    connection.execute(update(counter).where(counter.c.name == "epoch").values(value=epoch))
    gone = delete(engine_lease)
    connection.execute(gone if alone else gone.where(engine_lease.c.expires_us <= now_us))
    _disown_orphans(connection)
    used = set(connection.execute(select(engine_lease.c.slot)).scalars())
    slot = next((free for free in range(slots) if free not in used), None)
    if slot is None:
        raise LimitExceeded(f"all {slots} engine slots are taken", slots=slots)
    expires_us = now_us + ttl_us
    connection.execute(
        insert(engine_lease).values(
            id=epoch, engine=engine, slot=slot, epoch=epoch, expires_us=expires_us, gives=0
        )
    )
    return Lease(epoch, engine, slot, epoch, expires_us, 0)


def renew(connection: Connection, lease: Lease, ttl_us: int, now_us: int) -> Lease:
    """Extend a lease that nobody has voided."""
    expires_us = now_us + ttl_us
    changed = connection.execute(
        update(engine_lease).where(_same(lease)).values(expires_us=expires_us)
    )
    if changed.rowcount != 1:
        raise lost(lease)
    return lease._replace(expires_us=expires_us)


def release(connection: Connection, lease: Lease) -> None:
    """Void a lease; its partitions have no owner then."""
    _serialize(connection)
    connection.execute(delete(engine_lease).where(_same(lease)))
    _disown_orphans(connection)


def live(connection: Connection, now_us: int) -> list[Lease]:
    """Return the live leases by slot."""
    columns = engine_lease.c
    found = connection.execute(
        select(columns.id, columns.engine, columns.slot, columns.epoch, columns.expires_us)
        .where(columns.expires_us > now_us)
        .order_by(columns.slot)
    )
    return [Lease(*row, 0) for row in found]


def owners(connection: Connection, now_us: int) -> list[PartitionOwner]:
    """Return all partitions with their owners."""
    found = connection.execute(
        select(
            partition.c.partition,
            engine_lease.c.id,
            engine_lease.c.slot,
            engine_lease.c.expires_us,
        )
        .outerjoin_from(partition, engine_lease, partition.c.lease == engine_lease.c.id)
        .order_by(partition.c.partition)
    )
    return [
        PartitionOwner(number, None, -1, False)
        if lease is None
        else PartitionOwner(number, lease, slot, expires_us > now_us)
        for number, lease, slot, expires_us in found
    ]


def _must_hold(connection: Connection, lease: Lease, now_us: int) -> None:
    held = connection.execute(
        select(engine_lease.c.id)
        .where(_same(lease), engine_lease.c.expires_us > now_us)
        .with_for_update()
    )
    if held.first() is None:
        raise lost(lease)


def claim(connection: Connection, lease: Lease, wanted: int, now_us: int) -> list[int]:
    """Take partitions without a live owner; every expired lease is void from here on."""
    _serialize(connection)
    _must_hold(connection, lease, now_us)
    if wanted <= 0:
        return []
    connection.execute(delete(engine_lease).where(engine_lease.c.expires_us <= now_us))
    _disown_orphans(connection)
    free = select(partition.c.partition).where(partition.c.lease.is_(None))
    numbers = list(connection.execute(free.order_by(partition.c.partition).limit(wanted)).scalars())
    if numbers:
        connection.execute(
            update(partition).where(partition.c.partition.in_(numbers)).values(lease=lease.id)
        )
    return numbers


def give(connection: Connection, lease: Lease, partitions: Sequence[int], now_us: int) -> int:
    """Disown partitions; return how many hand-overs this lease has seen."""
    _serialize(connection)
    _must_hold(connection, lease, now_us)
    connection.execute(
        update(partition)
        .where(partition.c.lease == lease.id, partition.c.partition.in_(list(partitions)))
        .values(lease=None)
    )
    gives = connection.execute(
        update(engine_lease)
        .where(_same(lease))
        .values(gives=engine_lease.c.gives + 1)
        .returning(engine_lease.c.gives)
    )
    return int(gives.scalar_one())
