"""What an executor before this one left: frames that it had taken and can no longer answer.

The queue would wait for it, ack_wait long. Where at most one executor is alive at any time
(`sole`), whatever is out when a group is opened was left by one that is dead, and is handed back
at once: also what it had been sent and never read. See docs/adr/0012-held-frames.md.
"""

import asyncio
from collections.abc import Mapping

import structlog

from bend_server.executor.groups import Group
from bend_server.executor.ledger import Ledger
from bend_server.executor.options import ExecutorOptions
from bend_server.ports.queue import Consumer, Queue

_log = structlog.get_logger(__name__)


class Inheritance:
    """Hands back what a dead executor held; used from this one's start on."""

    def __init__(self, queue: Queue, ledger: Ledger, options: ExecutorOptions) -> None:
        self._queue = queue
        self._ledger = ledger
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._seen: dict[str, None] = {}
        self._timers: list[asyncio.TimerHandle] = []

    def take(self, group: Group, consumer: Consumer) -> None:
        """Look at what is out of a group whose pull has just been opened.

        Long-running tasks may go on in services that come back: theirs is handed back after
        `resume_grace_s`, unless it was adopted.
        """
        options = self._options
        # Later the queue itself has given up waiting for whoever was before.
        if not options.sole or self._loop.time() >= self._began + options.ack_wait_long_s:
            return
        if group.id in self._seen:
            # Opened before: some of it may be ours.
            return
        self._seen[group.id] = None
        left = consumer.unacked()
        if not left:
            return
        if group.contract.long_running:
            grace_s = options.resume_grace_s
            self._timers.append(self._loop.call_later(grace_s, self._hand_back, group.id, left))
        else:
            self._hand_back(group.id, left)

    def _hand_back(self, group: str, left: Mapping[int, str]) -> None:
        kept = {sequence for owner, sequence, _ in self._ledger.frames if owner == group}
        for sequence, token in left.items():
            if sequence not in kept:
                self._queue.nak(token)
        _log.info("left_frames_handed_back", group=group, kept=len(kept))

    def stop(self) -> None:
        """Hand nothing back any more."""
        for timer in self._timers:
            timer.cancel()
