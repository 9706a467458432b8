"""What the owner's memory knows of open tasks beyond their rows."""

from datetime import UTC, datetime

from bend_server.core.model import ITEM_NONE, TaskStatus
from bend_server.core.state import ExecutionState
from bend_server.engine.dispatch import Dispatch
from bend_server.engine.live import Live
from bend_server.engine.routing import Routes
from bend_server.engine.windows import Windows
from bend_server.ports.engine import TaskOverlay

STARTED_MAX = 100_000

_SCHEDULED = int(TaskStatus.SCHEDULED)
_RUNNING = int(TaskStatus.RUNNING)
_WAITING = int(TaskStatus.WAITING)


class Overlay:
    """Reads transient states. `workers` holds the hints of running tries; it is bounded."""

    def __init__(self, live: Live, windows: Windows, dispatch: Dispatch, routes: Routes) -> None:
        self._live = live
        self._windows = windows
        self._dispatch = dispatch
        self._routes = routes
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
        """Return the open tasks of an execution in memory, in order; [] for all others."""
        state = self._live.states.get(execution)
        if state is None or state.terminal:
            return []
        return [
            self._task(state, task, status)
            for task, status in enumerate(state.statuses)
            if _SCHEDULED <= status <= _WAITING
        ]

    def _task(self, state: ExecutionState, task: int, status: int) -> TaskOverlay:
        attempt = state.attempt(task)
        try_ = state.tries[task]
        if status == _WAITING:
            due_us = (state.due or {}).get(task, 0)
            why = f"retry at {_instant(due_us)}"
            return TaskOverlay(task, ITEM_NONE, _WAITING, attempt, try_, "", 0, why)
        key = (state.start.id, task, ITEM_NONE, try_)
        handout = self._windows.by_key.get(key)
        if handout is None:
            why = self._reason(state, task)
            return TaskOverlay(task, ITEM_NONE, _WAITING, attempt, try_, "", 0, why)
        worker, since_us = self.workers.get(key, ("", handout.sent_us))
        status = _RUNNING if worker else _SCHEDULED
        return TaskOverlay(task, ITEM_NONE, status, attempt, try_, worker, since_us, "")

    def _reason(self, state: ExecutionState, task: int) -> str:
        if state.quarantined:
            return "quarantined"
        lane = self._dispatch.lanes.lane(state.start.namespace, state.plan.tasks[task])
        if not lane.route(self._routes):
            return f"no instance of {lane.wish()}"
        return f"instances of {lane.wish()} are busy; {lane.count} tasks wait"


def _instant(us: int) -> str:
    moment = datetime.fromtimestamp(us // 1_000_000, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
