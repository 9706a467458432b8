"""The executor's settings."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorOptions:
    """Settings of one executor; times in seconds.

    Args:
        name: unique among the executors, for example host and port.
        resume_key: at least 32 bytes that all executors share; seals resume tokens.
        silence_s: a stream that says nothing for so long is dead; services beat thrice in it.
        ack_wait_short_s: how long a dead executor's frames of short tasks stay unserved.
        ack_wait_long_s: the same for long-running tasks.
        inactive_s: the queue forgets a group's consumer after so long without a pull.
        resume_grace_s: how long a long-running task waits for its service to come back.
        cancel_grace_s: how long a service may take to stop a cancelled task.
        drain_grace_s: how long a stop waits for running tasks.
        stale_s: an older frame is checked with the engine before it runs, as is one from before
            the executor's start.
        roles: first parts of the identities that may serve components.
        sole: no other executor is alive on this queue, whenever this one runs.
    """

    name: str
    resume_key: bytes
    silence_s: float = 15.0
    ack_wait_short_s: float = 10.0
    ack_wait_long_s: float = 60.0
    inactive_s: float = 3600.0
    resume_grace_s: float = 10.0
    cancel_grace_s: float = 10.0
    drain_grace_s: float = 10.0
    stale_s: float = 5.0
    roles: tuple[str, ...] = ("component", "bench")
    sole: bool = False


TICK_S = 0.25
ANNOUNCE_S = 3.0
ANNOUNCE_GAP_S = 0.05
STARTED_S = 1.0
STARTED_KEYS_MAX = 512
CANCELLED_S = 60.0
CANCELLED_MAX = 200_000
ASK_S = 2.0
ASK_KEYS_MAX = 128
SLOTS_MAX = 16
RESULTS_IN_FLIGHT = 6
FRAME_TASKS_LIMIT = 1024
BATCH_TASKS_MAX = 128
BATCH_BYTES_MAX = 1024 * 1024
CHUNKS_BATCH_MAX = 1024
CHUNK_BYTES_MAX = 256 * 1024
RESULTS_BATCH_MAX = 1024
PROTOCOL_VERSION = 1
LOSSES_KEPT_MAX = 20_000
STALL_S = 5.0
