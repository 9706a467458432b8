"""Task frames: what goes into the TASKS stream."""

from bend.internal.v1 import frames_pb2
from bend_server.core.plan import Hole, Rendered
from bend_server.engine.lanes import Work

TASK_BYTES = 200
"""What a task weighs in a frame beside its input, roughly; only the bound needs it."""
MILLISECONDS_MAX = 2**32 - 1


class FrameBuilder:
    """Builds one frame."""

    __slots__ = ("_frame", "size", "timeout_us", "works")

    def __init__(self, namespace: str, group: str, slot: int) -> None:
        self._frame = frames_pb2.TaskFrame(namespace=namespace, group=group, slot=slot)
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
        self.works.append(work)
        self.size += len(data) + TASK_BYTES
        self.timeout_us = max(task.timeout_us, self.timeout_us)
        queued = self._frame.tasks.add(
            execution=start.id,
            task=index,
            item=item + 1,
            attempt=attempt,
            iteration=iteration,
            input=data,
            schedule_deadline_us=since_us + task.schedule_timeout_us,
            timeout_ms=min(task.timeout_us // 1000, MILLISECONDS_MAX),
            heartbeat_timeout_ms=min(task.heartbeat_timeout_us // 1000, MILLISECONDS_MAX),
            execution_id=start.public_id,
            task_id=task.id,
            traceparent=start.trace,
            component=task.component,
            **{"try": try_},
        )
        if rendered.holes:
            for hole in rendered.holes:
                queued.holes.append(hole_message(hole))

    def data(self) -> bytes:
        """Return the frame as it is published."""
        return self._frame.SerializeToString()


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
