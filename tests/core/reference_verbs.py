"""The second half of the reference model: what comes from outside, and new runs."""

from bend_server.core.model import ExecutionStatus as E
from bend_server.core.model import Phase, TaskKind
from bend_server.core.model import TaskStatus as S
from tests.core.reference import GRACE_US, Reference
from tests.core.reference_units import FAILURES, NO_ITEM, Node, Unit


class Model(Reference):
    """The whole model."""

    def begin_wait(self, task: int, item: int, name: str, due: int) -> bool:
        node = self.tasks[task]
        unit = node.unit(item)
        if self.paused or unit.status != S.SCHEDULED or self.stopping(node):
            return False
        unit.status = S.WAITING
        self.waited += 1
        unit.wait = (self.waited, name, due)
        if node.spec.kind == TaskKind.SIGNAL and self.signals.get(name):
            payload = self.signals[name].pop(0)
            self.outcome(task, item, S.COMPLETED, output=payload)
        return True

    def wait_due(self, task: int, item: int) -> None:
        node = self.tasks[task]
        unit = node.unit(item)
        if self.paused or unit.wait is None or not 0 < unit.wait[2] <= self.now:
            return
        if node.spec.kind == TaskKind.WAIT:
            self.outcome(task, item, S.COMPLETED, output=b"null")
        else:
            reason = f"{node.spec.kind.name}_TIMEOUT"
            self.outcome(task, item, S.TIMED_OUT, reason=reason)

    def signal(self, name: str, payload: bytes) -> str:
        if self.terminal:
            return "ENDED"
        waiting = [
            (unit.wait[0], node.index, item)
            for node in self.tasks
            if node.spec.kind == TaskKind.SIGNAL
            for item, unit in [(NO_ITEM, node), *enumerate(node.items or [])]
            if unit.wait is not None and unit.wait[1] == name
        ]
        if waiting:
            _, task, item = min(waiting)
            self.outcome(task, item, S.COMPLETED, output=payload)
            return "DELIVERED"
        self.signals.setdefault(name, []).append(payload)
        return "KEPT"

    def begin_child(self, task: int, item: int, child: int) -> bool:
        node = self.tasks[task]
        unit = node.unit(item)
        if self.paused or not unit.open or self.stopping(node):
            return False
        if unit.child is not None and unit.child[0] == child:
            return False
        unit.status = S.RUNNING
        unit.child = (child, 1)
        return True

    def pause(self) -> bool:
        if self.status != E.RUNNING or self.ending is not None:
            return False
        self.status = E.PAUSED
        self.paused_at = self.now
        self.paused_by_failure = False
        return True

    def unpause(self) -> bool:
        if not self.paused:
            return False
        self.status = E.RUNNING
        self.deadline += self.now - self.paused_at
        self.revive(let=self.paused_by_failure)
        return True

    def cancel(self) -> bool:
        if self.phase == Phase.COMPENSATION:
            noted = self.ending == E.FAILED and not self.cancel_noted and not self.terminal
            self.cancel_noted = self.cancel_noted or noted
            return noted
        if self.terminal or self.ending not in (None, E.FAILED):
            return False
        self.end(E.CANCELLED, "CANCELLED")
        self.settle()
        return True

    def fire(self, task: int, item: int) -> None:
        """Open what is due again, or end a wait that is over."""
        unit = self.tasks[task].unit(item)
        if not self.paused and unit.due is not None and unit.due <= self.now:
            self.open(self.tasks[task], unit)
        self.wait_due(task, item)

    def grace_over(self) -> None:
        if self.terminal or self.ending is None or self.now < self.grace:
            return
        if self.phase == Phase.COMPENSATION:
            turn = self.undoer()
            if self.cut and turn is not None and turn[0].unit(turn[1]).child is None:
                self.decide(turn[0], turn[0].unit(turn[1]), S.CANCELLED)
                self.settle()
            return
        for node in self.having_turn():
            if node.over or not self.stopping(node):
                continue
            units = node.active() if node.items is not None else [node]
            for unit in units:
                if unit.open and unit.child is None:
                    self.decide(node, unit, S.CANCELLED)
            if node.items is not None:
                self.go_on(node)
        self.settle()

    def time_out(self) -> None:
        if self.paused or self.terminal or self.now < self.deadline:
            return
        if self.phase == Phase.COMPENSATION:
            if self.cut:
                return
            self.cut = True
            self.grace = self.now + GRACE_US
            turn = self.undoer()
            if turn is None or not self.stop(turn[0], turn[0].unit(turn[1])):
                self.settle()
        elif self.ending in (None, E.FAILED):
            self.end(E.TIMED_OUT, "TIMEOUT")
            self.settle()

    # New runs.

    def retry(self) -> bool:
        ended = self.terminal and self.status != E.COMPLETED
        if not ended and not (self.paused and self.paused_by_failure):
            return False
        return self.new_run([])

    def reset(self, task: int) -> bool:
        return self.terminal and self.new_run([self.tasks[task]])

    def new_run(self, resets: list[Node]) -> bool:
        if self.compensated:
            return False
        self.run += 1
        self.status = E.RUNNING
        self.deadline = self.now + self.timeout
        self.ending = None
        self.error = ""
        self.result = None
        causes = [
            node
            for node in self.main()
            if (node.status in FAILURES and not node.spec.allow_failure)
            or node.status == S.CANCELLED
        ]
        fresh = list(resets)
        for node in self.main():  # a task comes after those it depends on
            comes_after = any(self.by_id[one] in causes + fresh for one in node.spec.after)
            if comes_after and node not in fresh:
                fresh.append(node)
        if self.failed_over:
            fresh += self.on_failure()
        self.phase = Phase.MAIN
        self.failed_over = False
        for node in causes:
            if node not in fresh:
                self.again(node)
                for unit in node.items or []:
                    unit.admitted = False
                    if unit.status != S.COMPLETED:
                        self.again(unit)
                node.halted = False
        for node in fresh:
            self.again(node)
            node.iteration = 0
            node.child = None
            node.halted = False
            if node.items is not None:
                past = self.past.setdefault(node.index, [])
                past[: len(node.items)] = [unit.tries for unit in node.items]
                node.items = None
        indexes = [node.index for node in fresh]
        self.undo = [entry for entry in self.undo if entry[0] not in indexes]
        self.revive()
        return True

    @staticmethod
    def again(unit: Unit) -> None:
        unit.status = S.PENDING
        unit.attempt = 0
        unit.output, unit.blob, unit.reason = None, False, ""
        unit.due = unit.wait = None
        unit.doubt = False

    def revive(self, *, let: bool = False) -> None:
        """Make up for what did not happen during a pause, or begin a new run."""
        for node in self.having_turn():
            if node.status in FAILURES and not node.spec.allow_failure:
                self.fail(node, let=let)
                break
        if self.paused:
            return
        waits: list[tuple[int, int]] = []
        doubts: list[tuple[Node, Unit]] = []
        for node in self.having_turn():
            if self.paused:
                return
            items = node.items if node.status == S.RUNNING else None
            units = [(NO_ITEM, node)] if items is None else list(enumerate(items))
            for item, unit in units:
                if unit.wait is not None and 0 < unit.wait[2] <= self.now:
                    waits.append((node.index, item))
                elif unit.doubt:
                    doubts.append((node, unit))
                elif unit.due is not None and unit.due <= self.now:
                    self.open(node, unit)
            if items is not None:
                self.go_on(node)
            elif self.ready(node):
                self.judge(node)
        self.settle()
        for task, item in waits:
            self.wait_due(task, item)
        for node, unit in doubts:
            if unit.doubt and not self.paused and self.resolve(node, unit):
                self.after(node, unit)
            self.lent = set()

    def crash(self) -> None:
        """Forget that workers said they had begun."""
        for node in self.tasks:
            for unit in [node, *(node.items or [])]:
                counted = unit is node and node.items is not None
                if unit.status == S.RUNNING and unit.child is None and not counted:
                    unit.status = S.SCHEDULED
