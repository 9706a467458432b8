"""What this engine owns and holds in memory: its lease, partitions, and execution states."""

from bend_server.core.ids import partition_of
from bend_server.core.model import FinishRow
from bend_server.core.state import ExecutionState
from bend_server.ports.store import Lease

RECENT_MAX = 16_384
RECENT_BYTES_MAX = 4096


class Live:
    """The engine's memory, a cache of SQL.

    Attributes:
        lease: the lease in force, or None.
        claimed: partitions that the lease owns in SQL; the fence of every commit.
        owned: those of them that are recovered: starts and look-ups go there.
        closing: those that are about to be given away: nothing moves in them any more.
        order: `owned` in ascending order, for round-robin.
        states: executions in memory, by id. States run ahead of SQL by at most two commits.
        held: executions whose fate a commit decides just now; nobody may load them from SQL.
        recent: executions that ended a short time ago, with their finish row when it is small.
        generation: counts drops of memory; what was begun in an older one must not be used.
    """

    __slots__ = (
        "claimed",
        "closing",
        "generation",
        "held",
        "lease",
        "order",
        "owned",
        "recent",
        "states",
    )

    def __init__(self) -> None:
        self.lease: Lease | None = None
        self.claimed: frozenset[int] = frozenset()
        self.owned: frozenset[int] = frozenset()
        self.closing: frozenset[int] = frozenset()
        self.order: list[int] = []
        self.states: dict[int, ExecutionState] = {}
        self.held: dict[int, None] = {}
        self.recent: dict[int, FinishRow | None] = {}
        self.generation = 0

    @property
    def slot(self) -> int:
        """The result lane of the lease; -1 without one."""
        return -1 if self.lease is None else self.lease.slot

    def owns(self, execution: int) -> bool:
        """Return whether an execution belongs here and its partition is recovered."""
        return partition_of(execution) in self.owned

    def claims(self, execution: int) -> bool:
        """Return whether an execution belongs here, recovered or not."""
        return partition_of(execution) in self.claimed

    def claim(self, partitions: list[int]) -> None:
        """Take partitions into the fence; they are not used before `open`."""
        self.claimed = self.claimed.union(partitions)

    def open(self, partitions: list[int]) -> None:
        """Use partitions that are recovered."""
        self._set_owned(self.owned.union(partitions))

    def close(self, partitions: list[int]) -> None:
        """Stop all work in partitions; what is gathered already may still be committed."""
        self.closing = self.closing.union(partitions)
        self._set_owned(self.owned.difference(partitions))

    def forget(self, partitions: list[int]) -> None:
        """Drop partitions with their memory."""
        gone = frozenset(partitions)
        self.close(partitions)
        self.closing = self.closing.difference(gone)
        self.claimed = self.claimed.difference(gone)
        for execution in [key for key in self.states if partition_of(key) in gone]:
            del self.states[execution]
        for execution in [key for key in self.recent if partition_of(key) in gone]:
            del self.recent[execution]

    def drop(self) -> None:
        """Drop all memory; claimed partitions stay claimed and must be recovered again."""
        self.generation += 1
        self._set_owned(frozenset())
        self.closing = frozenset()
        self.states.clear()
        self.held.clear()
        self.recent.clear()

    def void(self) -> None:
        """Drop all memory and the lease with its partitions."""
        self.drop()
        self.claimed = frozenset()
        self.lease = None

    def finished(self, row: FinishRow) -> None:
        """Forget the state of an execution whose end is committed, but remember that it ended."""
        self.states.pop(row.execution, None)
        recent = self.recent
        small = row.output is None or len(row.output) <= RECENT_BYTES_MAX
        recent[row.execution] = row if small else None
        if len(recent) > RECENT_MAX:
            del recent[next(iter(recent))]

    def _set_owned(self, owned: frozenset[int]) -> None:
        self.owned = owned
        self.order = sorted(owned)
