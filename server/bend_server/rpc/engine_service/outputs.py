"""Outputs of tasks in answers: from the blob store as if they were inline, as far as they fit."""

from collections.abc import Sequence

from bend_server.core import limits
from bend_server.core.model import ITEM_NONE
from bend_server.rpc import views
from bend_server.rpc.rooms import OUTPUT_BYTES_MAX, Rooms


async def with_outputs(
    rooms: Rooms,
    tasks: list[views.TaskView],
    every: Sequence[views.TaskView],
    room: int = OUTPUT_BYTES_MAX,
) -> list[views.TaskView]:
    """Return all tasks, blobs read; outputs that no longer fit are left out and marked so.

    Args:
        every: all tasks of the execution: lists are put together from their items.
        room: bytes that the outputs may take together.
    """
    shown: list[views.TaskView] = []
    for task in tasks:
        view = await _read(rooms, task, every, room) if room > 0 else task
        size = len(view.output or b"") + len(view.error or b"")
        if size > room and view.output is not None:
            view = view._replace(output=None, blob=view.blob or views.LEFT_OUT)
        else:
            room -= size
        shown.append(view)
    return shown


async def page_with_outputs(
    rooms: Rooms,
    tasks: list[views.TaskView],
    every: Sequence[views.TaskView],
    room: int = OUTPUT_BYTES_MAX,
) -> list[views.TaskView]:
    """Return the tasks from the first on whose outputs fit into `room` bytes; at least one."""
    shown: list[views.TaskView] = []
    for task in tasks:
        view = await _read(rooms, task, every, OUTPUT_BYTES_MAX)
        room -= len(view.output or b"") + len(view.error or b"")
        if room < 0 and shown:
            break
        shown.append(view)
    return shown


async def _read(
    rooms: Rooms, view: views.TaskView, every: Sequence[views.TaskView], room: int
) -> views.TaskView:
    if view.blob is None or view.output is not None or view.blob == views.LEFT_OUT:
        return view
    if view.blob == views.OF_ITEMS:
        output = await _listed(rooms, view, every, min(room, limits.BLOB_BYTES_MAX))
        return view._replace(output=output, blob=views.LEFT_OUT if output is None else None)
    return view._replace(output=await rooms.blob(view.blob))


async def _listed(
    rooms: Rooms, whole: views.TaskView, every: Sequence[views.TaskView], room: int
) -> bytes | None:
    """Return the list of a task's outputs; None when it does not fit, or one of them is lost."""
    parts = [b"null"] * whole.items
    size = 1 + 5 * whole.items
    for view in every:
        if view.task != whole.task or view.item == ITEM_NONE:
            continue
        output = view.output
        if output is None and view.blob is not None:
            output = await rooms.blob(view.blob)
            if output is None:
                return None
        if output is not None:
            parts[view.item] = output
            size += len(output) - 4
        if size > room:
            return None
    return b"[" + b",".join(parts) + b"]"
