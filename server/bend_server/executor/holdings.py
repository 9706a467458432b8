"""What an executor holds: frames taken from the queue, and their tasks."""

from typing import Any

from bend.internal.v1 import control_pb2, frames_pb2
from bend_server.executor.chunk_scrubbing import ChunkScrubber
from bend_server.executor.secrets import NO_TRACES

FILLING = 0
QUEUED = 1
OUTBOX = 2
RUNNING = 3
PARKED = 4
ENDED = 5

Key = tuple[int, int, int, int]
NEVER = float("inf")


class Frame:
    """One delivery of the TASKS stream; acked when its last task's result is stored.

    `left` counts its tasks that are not settled; `released` tells that one of them was given
    back: the frame is then handed back instead of acked.
    """

    __slots__ = (
        "ack_wait_s",
        "deliveries",
        "identity",
        "left",
        "progress_at",
        "released",
        "silent",
        "slot",
        "token",
    )

    def __init__(
        self,
        identity: tuple[str, int, int],
        token: str,
        deliveries: int,
        slot: int,
        ack_wait_s: float,
        now: float,
    ) -> None:
        self.identity = identity
        self.token = token
        self.deliveries = deliveries
        self.slot = slot
        self.ack_wait_s = ack_wait_s
        self.progress_at = now + ack_wait_s / 3
        self.left = 0
        self.released = False
        self.silent = False


class Held:
    """One try of a task, from the frame's arrival until its result is stored.

    Times are the event loop's seconds, but `started_us`. `group` and `session` are those of
    groups.py and sessions.py; `also` has other frames that carry the same try.
    """

    __slots__ = (
        "adopted",
        "also",
        "cancel_at",
        "deadline",
        "frame",
        "group",
        "heartbeat_at",
        "input",
        "key",
        "parked_until",
        "queued",
        "run_id",
        "scrubber",
        "secret_names",
        "secrets",
        "session",
        "since",
        "started_us",
        "state",
        "told",
        "worker",
    )

    def __init__(self, key: Key, frame: Frame, group: Any, queued: frames_pb2.QueuedTask) -> None:
        self.key = key
        self.frame = frame
        self.group = group
        self.queued = queued
        self.also: list[Frame] | None = None
        self.state = FILLING
        self.session: Any = None
        self.input: bytes = queued.input
        self.run_id = 0
        self.started_us = 0
        self.since = NEVER
        self.deadline = NEVER
        self.heartbeat_at = NEVER
        self.cancel_at = NEVER
        self.parked_until = NEVER
        self.secrets = NO_TRACES
        self.scrubber: ChunkScrubber | None = None
        self.secret_names: list[str] = []
        self.told = False
        # From a resume token: only its worker has the input.
        self.adopted = False
        self.worker = ""


def key_of(named: Any) -> Key:
    """Return the key of a QueuedTask or TaskKey (`try` is a word of Python's)."""
    return (named.execution, named.task, named.item, getattr(named, "try"))


def task_key(key: Key) -> control_pb2.TaskKey:
    """Return a key as messages carry it."""
    return control_pb2.TaskKey(execution=key[0], task=key[1], item=key[2], **{"try": key[3]})
