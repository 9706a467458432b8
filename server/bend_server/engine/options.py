"""What a composition root may set, and the counts that metrics read."""

from dataclasses import dataclass

from bend_server.core import limits

DAY_US = 86_400 * 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """Bounds and periods of one engine.

    Attributes:
        name: who this is, for the lease row; unique among engines that run together.
        replica: first part of the name, of whom at most one runs at a time, as whoever starts it
            guarantees: leases that an earlier one left are void at the start. Empty: they run out.
        slots: how many result lanes exist; at most 16.
        lease_ttl_us: life of the lease; it is renewed at a third of it.
        ack_wait_s: seconds until an unacked result frame is delivered again.
        commit_rows_max: intake waits while so many rows are gathered.
        executions_admitted_max: more executions in memory let new ones wait, PENDING and parked.
        executions_live_max: more executions in memory, or waiting so, refuse starts (OVERLOADED).
        window_tasks_min: tasks handed out to one group, at least, before the rest waits here.
        frame_tasks_max: tasks in one frame.
        intake_frames: result frames asked for beyond those delivered.
        resync_s: period in which tasks that are handed out for long are looked up in the queue.
        silence_us: an executor that says nothing for so long is gone.
        park_after_us: an execution that waits longer than this leaves memory.
        park_s: period of the read that fetches parked executions whose time comes.
        sweep_s: period of the sweeper.
        sweep_late_us: the sweeper ends executions that are past their deadline by more than this.
        retention_s: period of the retention loop.
        retention_us: finished executions are kept so long.
        start_wait_s: `start` returns after so many seconds even when SQL or the queue is away.
        retry_s: first pause after a dependency failed; doubles up to 4 times as much.
    """

    name: str = "engine"
    replica: str = ""
    slots: int = 16
    lease_ttl_us: int = limits.LEASE_TTL_US
    ack_wait_s: float = 10.0
    commit_rows_max: int = limits.COMMIT_ROWS_MAX
    executions_admitted_max: int = limits.EXECUTIONS_ADMITTED_MAX
    executions_live_max: int = limits.EXECUTIONS_LIVE_MAX
    window_tasks_min: int = limits.WINDOW_TASKS_MIN
    frame_tasks_max: int = limits.FRAME_TASKS_MAX
    intake_frames: int = 64
    resync_s: float = 30.0
    silence_us: int = 10_000_000
    park_after_us: int = 120_000_000
    park_s: float = 60.0
    sweep_s: float = 300.0
    sweep_late_us: int = 300_000_000
    retention_s: float = 3600.0
    retention_us: int = 30 * DAY_US
    start_wait_s: float = 30.0
    retry_s: float = 0.1


class Counters(dict[str, int]):
    """Counts since the start, by name; raised once a batch, never once a step."""

    def add(self, name: str, count: int = 1) -> None:
        """Raise one count."""
        self[name] = self.get(name, 0) + count
