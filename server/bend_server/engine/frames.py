"""Task frames: what goes into the TASKS stream.

Tasks are written in protobuf's wire format by hand: most bytes of a task are the same for all
executions of a plan and are made once. Through the message classes this took a twelfth of the
engine's CPU. tests/engine/test_frames.py holds it against those classes.
"""

from struct import Struct

from bend.internal.v1 import frames_pb2
from bend_server.core.plan import Hole, Rendered, TaskPlan
from bend_server.engine.lanes import Work

TASK_BYTES = 200
"""What a task weighs in a frame beside its input, roughly; only the bound needs it."""
MILLISECONDS_MAX = 2**32 - 1
PLANS_MAX = 200_000

_execution = Struct("<BQ").pack
_EXECUTION = 1 << 3 | 1
_ITEM = bytes((3 << 3,))
_TRY = bytes((4 << 3,))
_ATTEMPT = bytes((5 << 3,))
_ITERATION = bytes((6 << 3,))
_INPUT = bytes((7 << 3 | 2,))
_HOLE = bytes((8 << 3 | 2,))
_DEADLINE = bytes((9 << 3,))
_PUBLIC_ID = bytes((12 << 3 | 2,))
_TRACE = bytes((14 << 3 | 2,))
_TASK = bytes((4 << 3 | 2,))


def varint(number: int) -> bytes:
    """Return a number >= 0 in protobuf's variable length."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


_SMALL = [varint(number) for number in range(4096)]
_FIRST = _TRY + b"\x01" + _ATTEMPT + b"\x01"


def _sized(data: bytes) -> bytes:
    size = len(data)
    return (_SMALL[size] if size < 4096 else varint(size)) + data


class TaskHeads:
    """The bytes that all hand-outs of a planned task share, made once per task."""

    def __init__(self) -> None:
        # By identity: the entry keeps its task alive, so that ids stay unique.
        self._heads: dict[int, tuple[TaskPlan, bytes]] = {}

    def head(self, task: TaskPlan) -> bytes:
        """Return the serialized fields."""
        entry = self._heads.get(id(task))
        if entry is not None:
            return entry[1]
        head = frames_pb2.QueuedTask(
            task=task.index,
            timeout_ms=min(task.timeout_us // 1000, MILLISECONDS_MAX),
            heartbeat_timeout_ms=min(task.heartbeat_timeout_us // 1000, MILLISECONDS_MAX),
            task_id=task.id,
            component=task.component,
        ).SerializeToString()
        if len(self._heads) >= PLANS_MAX:
            self._heads.clear()
        self._heads[id(task)] = (task, head)
        return head


class FrameBuilder:
    """Builds one frame."""

    __slots__ = ("_deadline", "_deadline_us", "_heads", "_parts", "size", "timeout_us", "works")

    def __init__(self, heads: TaskHeads, namespace: str, group: str, slot: int) -> None:
        frame = frames_pb2.TaskFrame(namespace=namespace, group=group, slot=slot)
        self._heads = heads
        self._parts = [frame.SerializeToString()]
        self._deadline_us = 0
        self._deadline = b""
        self.works: list[Work] = []
        self.size = 0
        self.timeout_us = 0

    def add(self, work: Work, rendered: Rendered) -> None:
        """Append one task with its input."""
        ready, since_us = work
        state, index, item, try_, attempt, iteration = ready
        task = state.plan.tasks[index]
        start = state.start
        data = rendered.data
        self.timeout_us = max(self.timeout_us, task.timeout_us)
        deadline_us = since_us + task.schedule_timeout_us
        if deadline_us != self._deadline_us:
            self._deadline_us = deadline_us
            self._deadline = _DEADLINE + varint(deadline_us)
        parts = [
            _execution(_EXECUTION, start.id),
            self._heads.head(task),
            _FIRST if try_ == 1 == attempt else _TRY + varint(try_) + _ATTEMPT + varint(attempt),
            self._deadline,
            _INPUT,
            _sized(data),
            _PUBLIC_ID,
            _sized(start.public_id.encode()),
        ]
        if item >= 0:
            parts += (_ITEM, varint(item + 1))
        if iteration:
            parts += (_ITERATION, varint(iteration))
        if start.trace:
            parts += (_TRACE, _sized(start.trace.encode()))
        for hole in rendered.holes:
            parts += (_HOLE, _sized(hole_message(hole).SerializeToString()))
        self._parts += (_TASK, _sized(b"".join(parts)))
        self.works.append(work)
        self.size += len(data) + TASK_BYTES

    def data(self) -> bytes:
        """Return the frame as it is published."""
        return b"".join(self._parts)


def hole_message(hole: Hole) -> frames_pb2.Hole:
    """Return a hole as it travels."""
    message = frames_pb2.Hole(path=hole.path)
    for part in hole.parts:
        if part.secret is not None:
            message.parts.add(secret=part.secret)
        elif part.blob is not None:
            message.parts.add(
                blob=frames_pb2.BlobRef(key=part.blob, size_bytes=max(part.blob_bytes, 0))
            )
        else:
            message.parts.add(text=part.text or "")
    return message
