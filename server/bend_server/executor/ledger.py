"""The books of an executor: which frames are open, which tries are held, what was cancelled."""

from collections.abc import Iterable
from typing import Any

from google.protobuf.message import DecodeError

from bend.internal.v1 import frames_pb2
from bend_server.core.errors import InvalidInput
from bend_server.executor.groups import Group
from bend_server.executor.holdings import Frame, Held, Key, key_of
from bend_server.executor.options import (
    CANCELLED_MAX,
    CANCELLED_S,
    FRAME_TASKS_LIMIT,
    LOSSES_KEPT_MAX,
)
from bend_server.ports.queue import Delivery, Queue


class Ledger:
    """Frames and tries held here. A try is held once, however often it is delivered."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self.frames: dict[tuple[str, int, int], Frame] = {}
        self.held: dict[Key, Held] = {}
        # Cancelled tries, and executions as (id,): until when they are remembered.
        self._cancelled: dict[Any, float] = {}
        self._losses: dict[Key, int] = {}

    def admit(
        self, group: Group, delivery: Delivery, ack_wait_s: float, now: float
    ) -> tuple[Frame, list[Held]]:
        """Book a delivery; return its frame and the tries that were not held before.

        Raises:
            InvalidInput: the message is no frame of this group; nothing was booked.
        """
        identity = (group.id, delivery.sequence, delivery.published_us)
        frame = self.frames.get(identity)
        if frame is not None:
            frame.token = delivery.token
            frame.deliveries = max(frame.deliveries, delivery.deliveries)
            frame.progress_at = now + ack_wait_s / 3
            return frame, []
        try:
            message = frames_pb2.TaskFrame.FromString(delivery.data)
        except DecodeError as error:
            raise InvalidInput("a task frame cannot be decoded") from error
        tasks = message.tasks
        if message.group != group.id or message.namespace != group.namespace:
            raise InvalidInput("a task frame names another group")
        if not 0 < len(tasks) <= FRAME_TASKS_LIMIT:
            raise InvalidInput("a task frame has no tasks, or too many")
        frame = Frame(identity, delivery.token, delivery.deliveries, message.slot, ack_wait_s, now)
        held_now = self.held
        fresh: list[Held] = []
        for queued in tasks:
            key = key_of(queued)
            held = held_now.get(key)
            if held is None:
                held = Held(key, frame, group, queued)
                held_now[key] = held
                fresh.append(held)
            elif held.also is None:
                held.also = [frame]
            else:
                held.also.append(frame)
        frame.left = len(tasks)
        self.frames[identity] = frame
        return frame, fresh

    def settle(self, held: Held) -> None:
        """The result is stored, or nobody wants it: ack the frame when it was the last."""
        if self.held.pop(held.key, None) is None:
            return
        self._leave(held.frame)
        if held.also is not None:
            for frame in held.also:
                self._leave(frame)

    def release(self, held: Held) -> None:
        """Give a try back to the queue: its frame is handed back when the others are through."""
        held.frame.released = True
        if held.also is not None:
            for frame in held.also:
                frame.released = True
        self.settle(held)

    def forget(self, held: Held) -> None:
        """Another executor has taken over the try and the ack of its frame."""
        held.frame.silent = True
        self.settle(held)

    def _leave(self, frame: Frame) -> None:
        frame.left -= 1
        if frame.left > 0:
            return
        self.frames.pop(frame.identity, None)
        if frame.silent:
            return
        if frame.released:
            self._queue.nak(frame.token)
        else:
            self._queue.ack(frame.token)

    def lose(self, key: Key) -> int:
        """Note that a worker was lost with a try; return how many were, also over hand-backs."""
        lost = self._losses.pop(key, 0) + 1
        self._losses[key] = lost
        if len(self._losses) > LOSSES_KEPT_MAX:
            self._losses.pop(next(iter(self._losses)))
        return lost

    def progress(self, now: float) -> None:
        """Restart the ack_wait of every open frame that has used a third of it."""
        for frame in self.frames.values():
            if frame.progress_at <= now and not frame.silent:
                frame.progress_at = now + frame.ack_wait_s / 3
                self._queue.in_progress(frame.token)

    def cancel(self, keys: Iterable[Key], now: float) -> list[Held]:
        """Remember cancelled tries (try 0: all of the execution); return those held now."""
        executions: dict[int, None] = {}
        found: list[Held] = []
        for key in keys:
            if len(self._cancelled) >= CANCELLED_MAX:
                self._cancelled.pop(next(iter(self._cancelled)))
            if key[3] == 0:
                executions[key[0]] = None
                self._cancelled[(key[0],)] = now + CANCELLED_S
                continue
            self._cancelled[key] = now + CANCELLED_S
            held = self.held.get(key)
            if held is not None:
                found.append(held)
        if executions:
            found += [held for held in self.held.values() if held.key[0] in executions]
        return found

    def is_cancelled(self, key: Key) -> bool:
        """Tell whether a try was cancelled in the last 60 s."""
        known = self._cancelled
        return bool(known) and (key in known or (key[0],) in known)

    def expire(self, now: float) -> None:
        """Forget old cancels."""
        known = self._cancelled
        while known:
            first = next(iter(known))
            if known[first] > now:
                break
            del known[first]
