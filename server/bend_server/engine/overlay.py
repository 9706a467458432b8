"""What the owner's memory knows of open tasks beyond their rows."""

from datetime import UTC, datetime

from bend_server.core.model import ITEM_NONE, ExecutionStatus, TaskKind, TaskStatus
from bend_server.core.state import ExecutionState
from bend_server.engine.dispatch import Dispatch
from bend_server.engine.live import Live
from bend_server.engine.routing import Routes
from bend_server.engine.slots import Slots
from bend_server.engine.windows import Key, Windows
from bend_server.ports.engine import TaskOverlay

STARTED_MAX = 100_000

_SCHEDULED = int(TaskStatus.SCHEDULED)
_RUNNING = int(TaskStatus.RUNNING)
_WAITING = int(TaskStatus.WAITING)
_PENDING_EXECUTION = int(ExecutionStatus.PENDING)


class Overlay:
    """Reads transient states. `workers` holds the hints of running tries; it is bounded."""

    def __init__(
        self, live: Live, windows: Windows, dispatch: Dispatch, routes: Routes, slots: Slots
    ) -> None:
        self._live = live
        self._windows = windows
        self._dispatch = dispatch
        self._routes = routes
        self._slots = slots
        self.workers: dict[tuple[int, int, int, int], tuple[str, int]] = {}

    def started(self, key: tuple[int, int, int, int], worker: str, now_us: int) -> None:
        """Remember who runs a try."""
        if len(self.workers) >= STARTED_MAX:
            by_key = self._windows.by_key
            self.workers = {k: who for k, who in self.workers.items() if k in by_key}
            if len(self.workers) >= STARTED_MAX:
                return
        self.workers.setdefault(key, (worker, now_us))

    def of(self, execution: int) -> list[TaskOverlay]:
        """Return the open tasks of an execution in memory, in order; [] for all others.

        One that is PENDING has none: its row says why it waits.
        """
        state = self._live.states.get(execution)
        if state is None or state.terminal or state.status == _PENDING_EXECUTION:
            return []
        found: list[TaskOverlay] = []
        for task, status in enumerate(state.statuses):
            fan = state.fan(task)
            if _SCHEDULED <= status <= _WAITING:
                if fan is None:
                    found.append(self._unit(state, task, ITEM_NONE, status))
                else:
                    found += [
                        self._unit(state, task, item, fan.statuses[item])
                        for item in range(fan.next)
                        if _SCHEDULED <= fan.statuses[item] <= _WAITING
                    ]
        undoing = state.undoing()
        if undoing is not None and undoing[1] != ITEM_NONE:
            # Items are undone one by one; their task as a whole does not move.
            undo, item = state.plan.tasks[undoing[0]].compensated_by, undoing[1]
            if undo is not None and state.has_unit(undo, item):
                status = state.unit_status(undo, item)
                if _SCHEDULED <= status <= _WAITING:
                    found.append(self._unit(state, undo, item, status))
        return found

    def _unit(self, state: ExecutionState, task: int, item: int, status: int) -> TaskOverlay:
        attempt = state.attempt(task, item)
        units, index = state.unit(task, item)
        try_ = units.tries[index]
        child = state.child(task, item)
        if child is not None and child.try_ == state.open_try(task, item):
            # The child runs, and its task with it.
            why = f"child {child.public_id}"
            return TaskOverlay(task, item, _RUNNING, attempt, try_, "", 0, why, state.seq)
        why = self._own_reason(state, task, item)
        if not why and status == _WAITING:
            due_us = (units.due or {}).get(index, 0)
            why = f"retry at {_instant(due_us)}"
        if why:
            return TaskOverlay(task, item, _WAITING, attempt, try_, "", 0, why, state.seq)
        key = (state.start.id, task, item, try_)
        handout = self._windows.by_key.get(key)
        if handout is None:
            why = self._reason(state, task, key)
            # Without a reason it is on its way out: no window has it yet, no lane any more.
            status = _WAITING if why or state.plan.tasks[task].kind else _SCHEDULED
            return TaskOverlay(task, item, status, attempt, try_, "", 0, why, state.seq)
        # Handed out: then the rows that opened the try are durable.
        worker, since_us = self.workers.get(key, ("", handout.sent_us))
        status = _RUNNING if worker else _SCHEDULED
        return TaskOverlay(task, item, status, attempt, try_, worker, since_us, "")

    def _own_reason(self, state: ExecutionState, task: int, item: int) -> str:
        """Return what a task of the engine's own types waits for."""
        waiting = state.waiting(task, item)
        if waiting is not None:
            until = f" until {_instant(waiting.due_us)}" if waiting.due_us else ""
            if waiting.kind == TaskKind.WAIT:
                return f"timer{until}"
            if waiting.kind == TaskKind.SIGNAL:
                return f"signal {waiting.name}{until}"
            title = f" {waiting.title}" if waiting.title else ""
            return f"approval{title}{until}"
        return ""

    def _reason(self, state: ExecutionState, task: int, key: Key) -> str:
        if state.quarantined:
            return "quarantined"
        if state.paused:
            return "the execution is paused"
        if state.plan.tasks[task].kind:
            return ""
        limit = self._slots.reason(key)
        if limit:
            return limit
        lane = self._dispatch.lanes.lane(state.start.namespace, state.plan.tasks[task])
        if not lane.route(self._routes):
            return f"no instance of {lane.wish()}"
        busy = f"instances of {lane.wish()} are busy; {lane.count} tasks wait"
        return busy if lane.count else ""


def _instant(us: int) -> str:
    moment = datetime.fromtimestamp(us // 1_000_000, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
