"""Hand-out of ready tasks: lanes to groups, frames, publishes."""

import asyncio

import structlog

from bend.internal.v1 import control_pb2
from bend_server.core import limits
from bend_server.core.effects import Cancel, Ready
from bend_server.core.model import ExecutionStatus, Failure, Outcome, TaskStatus
from bend_server.engine.frames import FrameBuilder, TaskHeads
from bend_server.engine.gate import Gate
from bend_server.engine.inputs import Inputs
from bend_server.engine.jobs import Jobs
from bend_server.engine.lanes import Lane, Lanes, Work
from bend_server.engine.live import Live
from bend_server.engine.options import Counters, EngineOptions
from bend_server.engine.routing import Group, Routes
from bend_server.engine.steps import Steps
from bend_server.engine.timers import Timers
from bend_server.engine.windows import Handout, Windows, key_of
from bend_server.ports.clock import Clock
from bend_server.ports.queue import Queue, QueueDown

log = structlog.get_logger()

PUBLISH_RETRY_S = 0.2
PUBLISH_RETRY_S_MAX = 5.0
NOTICE_KEYS_MAX = 1000
PUMP_TASKS_MAX = 1024
SCHEDULED = int(TaskStatus.SCHEDULED)
RUNNING = int(TaskStatus.RUNNING)
EXECUTION_RUNNING = int(ExecutionStatus.RUNNING)
EXPIRE_PAUSE_US = 250_000


class Dispatch:
    """Moves ready tries from the lanes into the queue, within the groups' windows.

    `push` and `pump` are synchronous and called after a commit only; publishes run as jobs and
    are tried until they are stored or their tasks are closed.
    """

    def __init__(
        self,
        queue: Queue,
        clock: Clock,
        live: Live,
        steps: Steps,
        routes: Routes,
        windows: Windows,
        inputs: Inputs,
        timers: Timers,
        jobs: Jobs,
        options: EngineOptions,
        counters: Counters,
    ) -> None:
        self._queue = queue
        self._clock = clock
        self._live = live
        self._steps = steps
        self._routes = routes
        self._windows = windows
        self._inputs = inputs
        self._timers = timers
        self._jobs = jobs
        self._frame_max = options.frame_tasks_max
        self._counters = counters
        self._pumping = False
        self._heads = TaskHeads()
        self.lanes = Lanes()
        self.gate: Gate
        inputs.verdict = self.verdict
        inputs.again = self.again

    def push(self, ready: list[Ready], now_us: int) -> None:
        """Queue tries that are ready and durable."""
        self.lanes.push(self.gate.enter([(one, now_us) for one in ready]))

    def again(self, works: list[Work]) -> None:
        """Queue tries that were handed out before, or whose input is prepared now."""
        self.lanes.push(self.gate.enter(works))
        self.pump()

    def through(self, works: list[Work]) -> None:
        """Queue tries that have been through the gate."""
        self.lanes.push(works)
        self.pump()

    def uncached(self, works: list[Work]) -> None:
        """Queue tries that the cache has no answer for."""
        self.through([work for work in works if self.gate.after_cache(work)])

    def pump(self) -> None:
        """Hand out what the windows allow, in slices that leave the loop to others."""
        lanes = self.lanes
        if lanes.active and not self._pumping:
            now_us = self._clock.now_us()
            left = PUMP_TASKS_MAX
            for lane in list(lanes.active):
                left = self._pump_lane(lane, left, now_us)
                if left <= 0:
                    self._pumping = True
                    asyncio.get_running_loop().call_soon(self._pump_on)
                    return

    def _pump_on(self) -> None:
        self._pumping = False
        self.pump()

    def verdict(self, work: Work, status: int, failure: Failure) -> None:
        """End a try that the engine judges itself, on the road of every result."""
        ready = work[0]
        now_us = self._clock.now_us()
        self._steps.apply(
            ready.state,
            Outcome(
                ready.task,
                ready.item,
                ready.try_,
                status,
                None,
                None,
                failure,
                "",
                0,
                0,
                now_us,
                now_us,
            ),
            now_us,
        )

    def lane_due(self, lane: Lane) -> None:
        """End tries that nobody took in time; called by the lane's timer."""
        now_us = self._clock.now_us()
        lane.alarm_us = 0
        if lane.expires_us and lane.expires_us <= now_us:
            for work in lane.expire(now_us):
                self._expire(work)
        self._set_alarm(lane, now_us)

    def _set_alarm(self, lane: Lane, now_us: int) -> None:
        if lane.expires_us and (not lane.alarm_us or lane.expires_us < lane.alarm_us):
            # One look at a lane costs time by its length: not more than one a second.
            lane.alarm_us = max(lane.expires_us, now_us + EXPIRE_PAUSE_US)
            self._timers.add(lane.alarm_us, lane)

    def _expire(self, work: Work) -> None:
        ready = work[0]
        self._inputs.discard(work)
        if not self.is_open(ready) or key_of(ready) in self._windows.by_key:
            return
        task = ready.state.plan.tasks[ready.task]
        wish = self.lanes.lane(ready.state.start.namespace, task).wish()
        seconds = task.schedule_timeout_us / 1e6
        message = f"no instance of {wish} took task {task.id} within {seconds:g} s"
        self.verdict(work, TaskStatus.FAILED, Failure("SCHEDULE_TIMEOUT", message))

    def cancel(self, cancels: list[Cancel]) -> None:
        """Stop tries: those handed out by a notice, the others at once."""
        by_key = self._windows.by_key
        keys: list[control_pb2.TaskKey] = []
        now_us = self._clock.now_us()
        for cancel in cancels:
            if tuple(cancel) in by_key:
                keys.append(
                    control_pb2.TaskKey(
                        execution=cancel.execution,
                        task=cancel.task,
                        item=cancel.item + 1,
                        **{"try": cancel.try_},
                    )
                )
                continue
            state = self._live.states.get(cancel.execution)
            if state is not None and state.open_try(cancel.task, cancel.item) == cancel.try_:
                attempt = state.attempt(cancel.task, cancel.item)
                ready = Ready(state, cancel.task, cancel.item, cancel.try_, attempt, 0)
                self._stop((ready, now_us))
        for place in range(0, len(keys), NOTICE_KEYS_MAX):
            notice = control_pb2.CancelNotice(keys=keys[place : place + NOTICE_KEYS_MAX])
            self._jobs.spawn(self._broadcast("executor.cancel", notice.SerializeToString()))

    def revoke(self, group: Group) -> None:
        """Take back everything that a vanished group holds; the tries stay the same."""
        works: list[Work] = []
        for handout in self._windows.of_group(group):
            works += self._windows.revoke(handout)
        if works:
            self._counters.add("tasks_revoked", len(works))
            self.again(works)

    def clear(self) -> None:
        """Forget all ready tasks and what is out."""
        self.lanes.clear()
        self._windows.clear()
        self._inputs.clear()
        self.gate.clear()

    def is_open(self, ready: Ready) -> bool:
        """Return whether a try may still run, now or once its execution goes on."""
        state = ready[0]
        return (
            state.open_try(ready[1], ready[2]) == ready[3]
            and state.status == EXECUTION_RUNNING
            and self._live.states.get(state.start.id) is state
        )

    def _stop(self, work: Work) -> None:
        self.verdict(
            work,
            TaskStatus.CANCELLED,
            Failure("CANCELLED", "the task was cancelled before an instance took it"),
        )

    def _pump_lane(self, lane: Lane, left: int, now_us: int) -> int:
        """Hand out at most `left` tasks of one lane; return how many may still go."""
        routes = self._routes
        groups = lane.route(routes)
        waiting = lane.count
        while lane.count and left > 0:
            best: Group | None = None
            room = 0
            if lane.share is not None:
                free_groups = [(group, routes.window(group) - group.open) for group in groups]
                best, room = lane.share.choose(free_groups, min(left, lane.count))
            else:
                for group in groups:
                    free = routes.window(group) - group.open
                    if free > room:
                        best, room = group, free
            if best is None:
                break
            size = min(self._frame_max, -(-waiting // best.frames))
            count = min(size, best.frame_max, room)
            if lane.share is not None:
                lane.share.gave(count)
            self._hand_out(lane, best, count, now_us)
            left -= count
        if not lane.count:
            lane.expires_us = 0
            self.lanes.active.pop(lane, None)
            return left
        self._set_alarm(lane, now_us)
        if not groups:
            self.lanes.active.pop(lane, None)
        elif left <= 0:
            # The next slice begins with another lane.
            self.lanes.active[lane] = self.lanes.active.pop(lane)
        return left

    def _hand_out(self, lane: Lane, group: Group, count: int, now_us: int) -> None:
        slot = self._live.slot
        states = self._live.states
        by_key = self._windows.by_key
        frame = FrameBuilder(self._heads, lane.namespace, group.name, slot)
        for work in lane.take(count):
            ready = work[0]
            state, task, item, try_, _, _ = ready
            execution = state.start.id
            if (
                (
                    not SCHEDULED <= state.statuses[task] <= RUNNING or state.tries[task] != try_
                    if item < 0
                    else state.open_try(task, item) != try_
                )
                or state.status != EXECUTION_RUNNING
                or states.get(execution) is not state
                or (execution, task, item, try_) in by_key
            ):
                self._inputs.discard(work)
                continue
            if state.ending and state.stopping(task):
                self._inputs.discard(work)
                self._stop(work)
                continue
            rendered = self._inputs.render(work)
            if rendered is None:
                continue
            if frame.works and frame.size + len(rendered.data) > limits.FRAME_BYTES_MAX:
                self._send(group, frame, now_us)
                frame = FrameBuilder(self._heads, lane.namespace, group.name, slot)
            try:
                frame.add(work, rendered)
            except (ValueError, TypeError, OverflowError):
                # A value that no frame can carry: this task fails, the others go.
                log.exception("task_not_framed", execution=execution, task=task)
                failure = Failure("INTERNAL", "the task could not be handed out")
                self.verdict(work, TaskStatus.FAILED, failure)
        if frame.works:
            self._send(group, frame, now_us)

    def _send(self, group: Group, frame: FrameBuilder, now_us: int) -> None:
        handout = Handout(group, frame.works, now_us)
        handout.timeout_us = frame.timeout_us
        self._windows.open(handout)
        self._timers.add(now_us + frame.timeout_us + limits.BACKSTOP_US, handout)
        counters = self._counters
        counters.add("frames")
        counters.add("tasks", len(frame.works))
        self._jobs.spawn(self._publish(handout, frame.data()))

    async def _publish(self, handout: Handout, data: bytes) -> None:
        wait_s = PUBLISH_RETRY_S
        while not handout.revoked and handout.open:
            try:
                handout.sequence = await self._queue.publish(f"tasks.{handout.group.name}", data)
            except QueueDown:
                # The frame may be stored or not: a second copy is harmless, a lost one is not.
                self._counters.add("publishes_failed")
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, PUBLISH_RETRY_S_MAX)
            else:
                return

    async def _broadcast(self, subject: str, data: bytes) -> None:
        try:
            await self._queue.broadcast(subject, data)
        except QueueDown:
            self._counters.add("broadcasts_failed")
