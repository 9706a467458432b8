"""What is handed out: frames in the TASKS stream, and how full each group's window is."""

from collections.abc import Callable

from bend_server.core.effects import Ready
from bend_server.engine.lanes import Work
from bend_server.engine.routing import Group

Key = tuple[int, int, int, int]
"""(execution, task, item, try)"""


class Handout:
    """One frame.

    `sequence` is its place in the stream, 0 until the publish was answered. `open` counts its
    tries without a committed end. `revoked` tells that its tasks went elsewhere.
    """

    __slots__ = ("group", "open", "revoked", "sent_us", "sequence", "timeout_us", "works")

    def __init__(self, group: Group, works: list[Work], sent_us: int, sequence: int = 0) -> None:
        self.group = group
        self.works = works
        self.sequence = sequence
        self.sent_us = sent_us
        self.timeout_us = 0
        self.open = len(works)
        self.revoked = False


def key_of(ready: Ready) -> Key:
    """Return the key of a ready try."""
    return ready[0].start.id, ready[1], ready[2], ready[3]


class Windows:
    """Keeps `by_key` (every try that is out) and `handouts` (every frame with an open try)."""

    def __init__(self) -> None:
        self.by_key: dict[Key, Handout] = {}
        self.handouts: dict[Handout, None] = {}

    def open(self, handout: Handout) -> None:
        """Count a frame in before it is published."""
        by_key = self.by_key
        for ready, _ in handout.works:
            by_key[(ready[0].start.id, ready[1], ready[2], ready[3])] = handout
        self.handouts[handout] = None
        handout.group.open += handout.open

    def close(self, key: Key) -> None:
        """Count one try out; unknown keys are ignored."""
        handout = self.by_key.pop(key, None)
        if handout is not None:
            handout.group.open -= 1
            handout.open -= 1
            if not handout.open:
                self.handouts.pop(handout, None)
                # Its timer still knows the frame for minutes; the executions must not live so long.
                handout.works = []

    def open_works(self, handout: Handout) -> list[Work]:
        """Return the tries of a frame that are still out under it."""
        by_key = self.by_key
        return [work for work in handout.works if by_key.get(key_of(work[0])) is handout]

    def revoke(self, handout: Handout) -> list[Work]:
        """Take a frame back; return its open tries, which may be handed out again."""
        works = self.open_works(handout)
        handout.revoked = True
        for ready, _ in works:
            self.close(key_of(ready))
        return works

    def forget(self, gone: Callable[[int], bool]) -> None:
        """Count out every try of the executions that a predicate names."""
        for key in [key for key in self.by_key if gone(key[0])]:
            self.close(key)

    def of_group(self, group: Group) -> list[Handout]:
        """Return the open frames of one group, oldest first."""
        return [handout for handout in self.handouts if handout.group is group]

    def clear(self) -> None:
        """Forget everything; frames on their way are not published again."""
        for handout in self.handouts:
            handout.revoked = True
            handout.group.open -= handout.open
        self.handouts.clear()
        self.by_key.clear()
