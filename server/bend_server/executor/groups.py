"""Instance groups: who may serve the same tasks, and what waits for them here."""

import asyncio
import hashlib
from collections import deque
from collections.abc import Mapping

import orjson

from bend.v1 import component_pb2
from bend_server.executor.holdings import Held
from bend_server.executor.sessions import Session
from bend_server.ports.queue import Consumer

FRAME_TASKS_GUESS = 128.0
PREFETCH_SERVICE_S = 0.5


def group_id(namespace: str, component: str, version: str, labels: Mapping[str, str]) -> str:
    """Return the 16 hex digits that name an instance group."""
    facts = [namespace, component, version, sorted(labels.items())]
    return hashlib.sha256(orjson.dumps(facts)).hexdigest()[:16]


class Group:
    """One instance group on this executor: its streams and its queued tasks."""

    __slots__ = (
        "closed",
        "component",
        "consumer",
        "contract",
        "frame_tasks",
        "id",
        "namespace",
        "progress_at",
        "puller",
        "queue",
        "service_s",
        "sessions",
        "stalled",
        "version",
    )

    def __init__(self, id_: str, namespace: str, contract: component_pb2.ComponentContract) -> None:
        self.id = id_
        self.namespace = namespace
        self.contract = contract
        self.component = contract.name
        self.version = contract.version
        # Session → index of the component in its hello.
        self.sessions: dict[Session, int] = {}
        self.queue: deque[Held] = deque()
        self.consumer: Consumer | None = None
        self.closed = False
        # When a task was last handed over or answered, in the loop's seconds.
        self.progress_at = 0.0
        # True: what waited here was given back; nothing is taken in advance until credit is free.
        self.stalled = False
        self.service_s = 0.0
        self.puller: asyncio.Task[None] | None = None
        # A running mean; large at first, so that nothing is hoarded before it is known.
        self.frame_tasks = 1.0 if contract.long_running else FRAME_TASKS_GUESS

    def free(self) -> int:
        """Return how many more tasks the group's instances take now."""
        return sum(s.free for s in self.sessions if not s.draining and s.free > 0)

    def best(self) -> Session | None:
        """Return the instance with the most free credit; None when all are full."""
        best: Session | None = None
        most = 0
        for session in self.sessions:
            if session.free > most and not session.draining:
                best, most = session, session.free
        return best

    def taken(self) -> bool:
        """Tell whether an instance here takes tasks, now or once its credit comes back."""
        return any(not session.draining for session in self.sessions)

    def saw_frame(self, tasks: int) -> None:
        """Learn how large frames are."""
        self.frame_tasks += (tasks - self.frame_tasks) * 0.25

    def served(self, seconds: float) -> None:
        """Learn how long a task takes; called once for a batch of answers."""
        self.service_s += (seconds - self.service_s) * 0.2

    def ask(self) -> None:
        """Allow as many frames as free credit can take; short tasks one more, to overlap."""
        if self.consumer is None:
            return
        spare = self.free() - len(self.queue)
        if spare <= 0:
            # One frame in advance, where it will not wait long and nothing waits here.
            slow = self.contract.long_running or self.service_s > PREFETCH_SERVICE_S
            more = 0 if slow or self.queue or self.stalled or not self.taken() else 1
        else:
            self.stalled = False
            more = int(spare / max(1.0, self.frame_tasks)) or 1
            if not self.contract.long_running and self.service_s <= PREFETCH_SERVICE_S:
                more += 1
        self.consumer.demand(more)
