"""The semantics a second time: small, slow, and written from the documents alone.

An execution is a list of task objects that are looked at again and again; there are no rows, no
counters, no arrays and no recovery. It shares nothing with the machine but the types of the plan
and the names of statuses. Outcomes, times and expressions are the test's (tests/kit/expressions).
What is decided first follows the document: first what ended first, then by position.
"""

from collections.abc import Sequence

from bend_server.core.model import ExecutionStatus as E
from bend_server.core.model import Phase, RunIf, TaskKind
from bend_server.core.model import TaskStatus as S
from tests.core.reference_units import FAILURES, NO_ITEM, Facts, Node, Unit
from tests.kit.expressions import Items, Rounds, Verdict
from tests.kit.plans import Task

GRACE_US = 10_000_000


class Reference(Facts):
    """One execution. The verbs are those of the machine, by task index and item."""

    def __init__(
        self, tasks: Sequence[Task], now: int, timeout: int, *, pause_on_failure: bool
    ) -> None:
        super().__init__(tasks, now, timeout, pause_on_failure=pause_on_failure)
        for node in self.main():
            if not node.spec.after and node.status == S.PENDING:
                self.judge(node)
        self.settle()

    # Judging.

    def needs_blob(self, node: Node) -> bool:
        """Return whether the condition or the list of a task reads an output in the store."""
        condition, items = node.spec.condition, node.spec.for_each
        reads = [one.reads for one in (condition, items) if isinstance(one, (Verdict, Items))]
        if isinstance(condition, Verdict) and not condition.answer:
            reads = [condition.reads]
        return any(
            task is not None and self.tasks[task].blob and task not in self.lent for task in reads
        )

    def load(self) -> None:
        """Judge what waited for a blob."""
        while self.later and not self.paused:
            node = self.later.pop(0)
            if self.ready(node) and not self.terminal:
                self.lent = {one.index for one in self.tasks if one.blob}
                self.judge(node, loaded=True)
                self.settle()
                self.lent = set()
        self.later.clear()

    def judge(self, node: Node, *, loaded: bool = False) -> None:
        """Decide about a task all of whose dependencies have ended."""
        if self.paused:
            return
        before = [self.by_id[name] for name in node.spec.after]
        fine = all(
            one.status in (S.COMPLETED, S.SKIPPED)
            or (one.status in FAILURES and one.spec.allow_failure)
            for one in before
        )
        failed = any(one.status in FAILURES for one in before)
        condition = node.spec.condition
        answer = condition.answer if isinstance(condition, Verdict) else True
        if self.stopping(node) or (node.spec.run_if == RunIf.SUCCESS and not fine):
            self.decide(node, node, S.CANCELLED)
        elif node.spec.run_if == RunIf.FAILURE and not failed:
            self.decide(node, node, S.SKIPPED)
        elif node.items is not None:
            self.begin_items(node, len(node.items))
        elif not loaded and self.needs_blob(node):
            self.later.append(node)
        elif answer is False:
            self.decide(node, node, S.SKIPPED)
        elif answer is None:
            self.cannot(node)
        elif isinstance(node.spec.for_each, Items):
            if node.spec.for_each.count < 0:
                self.cannot(node)
            else:
                self.begin_items(node, node.spec.for_each.count)
        else:
            self.open(node, node)

    def cannot(self, node: Node) -> None:
        """Fail a task that cannot be evaluated; that has its consequences at once."""
        self.decide(node, node, S.FAILED, "EXPRESSION_ERROR")
        self.fail_if_so(node)

    def decide(self, node: Node, unit: Unit, status: S, reason: str = "") -> None:
        """End a unit without an outcome."""
        if not unit.open:
            unit.tries += 1
        self.close(unit, status)
        unit.reason = reason or unit.reason
        self.ended(node, unit)

    def close(self, unit: Unit, status: S) -> None:
        unit.status = status
        unit.due = unit.wait = None
        unit.doubt = False
        if status != S.COMPLETED:
            unit.output, unit.blob = None, False

    def open(self, node: Node, unit: Unit) -> None:
        unit.tries += 1
        unit.attempt += 1
        unit.due = None
        unit.status = S.SCHEDULED
        if unit.child is not None:
            unit.child = (unit.child[0], unit.child[1] + 1)
            unit.status = S.RUNNING

    def ended(self, node: Node, unit: Unit) -> None:
        """Note that a unit has ended."""
        if node.spec.phase == Phase.COMPENSATION:
            self.undone += 1
            return
        is_item = unit is not node
        item = (node.items or []).index(unit) if is_item else NO_ITEM
        if is_item and unit.status in FAILURES and not node.spec.allow_failure:
            node.halted = True
        if not is_item:
            self.queue.append(node)
        undoable = any(one.spec.undoes == node.spec.id for one in self.tasks)
        if undoable and unit.status == S.COMPLETED and (is_item or node.spec.for_each is None):
            self.undo.append((node.index, item))

    # Items.

    def begin_items(self, node: Node, count: int) -> None:
        if node.items is None:
            node.items = [Unit(tries=tries) for tries in self.old_tries(node, count)]
        node.status = S.RUNNING
        node.tries += 1
        node.attempt = 1
        self.go_on(node)

    def old_tries(self, node: Node, count: int) -> list[int]:
        """Return the tries that items had in runs before: they count on for ever."""
        old = self.past.setdefault(node.index, [])
        old += [0] * (count - len(old))
        return old[:count]

    def go_on(self, node: Node) -> None:
        """Let items start as far as the window allows, or end the task."""
        if self.paused or node.status != S.RUNNING:
            return
        items = node.items or []
        if not self.stopping(node) and not node.halted:
            for unit in items:
                if len(node.active()) >= node.spec.parallel_max:
                    break
                if not unit.admitted and not unit.over:
                    unit.admitted = True
                    self.open(node, unit)
        if node.active():
            return
        failed = any(unit.status in FAILURES for unit in items)
        if failed and not node.spec.allow_failure:
            self.end_fan(node, S.FAILED, "ITEMS_FAILED")
        elif all(unit.over for unit in items) and not any(u.status == S.CANCELLED for u in items):
            self.end_fan(node, S.COMPLETED)
        else:
            self.end_fan(node, S.CANCELLED)

    def end_fan(self, node: Node, status: S, reason: str = "") -> None:
        node.status = status
        node.reason = reason
        self.queue.append(node)
        self.fail_if_so(node)

    # Outcomes.

    def outcome(
        self,
        task: int,
        item: int,
        status: S,
        *,
        output: bytes | None = None,
        blob: bool = False,
        reason: str = "",
        retryable: bool = False,
    ) -> None:
        """Take what came of an open try."""
        node = self.tasks[task]
        unit = node.unit(item)
        unit.wait = None
        if status == S.COMPLETED:
            over = self.completed(node, unit, output, blob=blob)
        else:
            over = self.failed(node, unit, status, reason, retryable=retryable)
        if over:
            self.after(node, unit)
        self.lent = set()

    def after(self, node: Node, unit: Unit) -> None:
        if unit is not node and node.spec.phase != Phase.COMPENSATION:
            self.go_on(node)
        self.settle()

    def completed(self, node: Node, unit: Unit, output: bytes | None, *, blob: bool) -> bool:
        unit.child = None
        unit.reason = ""
        unit.finished = self.now
        repeat = node.spec.repeat
        if repeat is None or unit.iteration + 1 >= repeat.rounds_max:
            return self.complete(node, unit, output, blob=blob)
        if blob:
            unit.status, unit.output, unit.blob, unit.doubt = S.WAITING, output, True, True
            if self.stopping(node):
                self.decide(node, unit, S.CANCELLED)
                return True
            return False if self.paused else self.resolve(node, unit)
        goes_on = self.goes_on(node, unit)
        if goes_on is None:
            unit.reason = "EXPRESSION_ERROR"
            self.close(unit, S.FAILED)
            self.ended(node, unit)
            return True
        if not goes_on:
            return self.complete(node, unit, output, blob=blob)
        self.next_round(node, unit)
        return unit.over

    def complete(self, node: Node, unit: Unit, output: bytes | None, *, blob: bool) -> bool:
        self.close(unit, S.COMPLETED)
        unit.output, unit.blob = output, blob
        self.ended(node, unit)
        return True

    @staticmethod
    def goes_on(node: Node, unit: Unit) -> bool | None:
        assert node.spec.repeat is not None
        rule = node.spec.repeat.goes_on
        assert isinstance(rule, Rounds)
        if unit.iteration + 1 < rule.rounds:
            return True
        return None if rule.broken else False

    def next_round(self, node: Node, unit: Unit) -> None:
        assert node.spec.repeat is not None
        unit.status, unit.output, unit.blob, unit.doubt = S.WAITING, None, False, False
        unit.iteration += 1
        unit.attempt = 0
        unit.due = unit.finished + node.spec.repeat.delay_us
        if self.stopping(node):
            self.decide(node, unit, S.CANCELLED)
        elif not self.paused and unit.due <= self.now:
            self.open(node, unit)

    def resolve(self, node: Node, unit: Unit) -> bool:
        """Decide about a loop whose output had to be loaded; return whether it has ended."""
        self.lent = {node.index}
        goes_on = self.goes_on(node, unit)
        if goes_on is None:
            self.decide(node, unit, S.FAILED, "EXPRESSION_ERROR")
        elif goes_on:
            self.next_round(node, unit)
        else:
            unit.doubt = False
            unit.status = S.COMPLETED
            self.ended(node, unit)
        return unit.over

    def failed(self, node: Node, unit: Unit, status: S, reason: str, *, retryable: bool) -> bool:
        policy = node.spec.retry
        if self.stopping(node):
            self.close(unit, status)
        else:
            if status == S.CANCELLED:
                status, reason = S.FAILED, reason or "CANCELLED"
                retryable = retryable and reason != "CANCELLED"
            reason = reason or ("TIMEOUT" if status == S.TIMED_OUT else "UNKNOWN")
            retryable = retryable or status == S.TIMED_OUT
            if node.spec.kind != TaskKind.COMPONENT:
                retryable = reason in policy.on
            if retryable and unit.attempt < policy.attempts_max:
                unit.status = S.WAITING
                unit.reason = reason
                unit.child = None
                wait = min(policy.initial_us * 2 ** (unit.attempt - 1), policy.max_us)
                unit.due = self.now + int(wait)
                return False
            self.close(unit, status)
        unit.reason = reason or ("TIMEOUT" if status == S.TIMED_OUT else "UNKNOWN")
        self.ended(node, unit)
        return True

    # Following.

    def settle(self) -> None:
        """Follow what has ended, first what ended first, until nothing follows."""
        while not self.paused and not self.terminal:
            while self.queue and not self.paused:
                node = self.queue.pop(0)
                self.fail_if_so(node)
                for other in self.tasks:
                    if node.spec.id in other.spec.after and self.ready(other):
                        self.judge(other)
            if self.paused:
                break
            if self.phase != Phase.COMPENSATION and not all(n.over for n in self.having_turn()):
                break
            if not self.next_phase() and not self.queue:
                break
        self.queue.clear()

    def ready(self, node: Node) -> bool:
        return node.status == S.PENDING and all(self.by_id[one].over for one in node.spec.after)

    def fail_if_so(self, node: Node) -> None:
        if self.ending is None and node.status in FAILURES and not node.spec.allow_failure:
            self.fail(node)

    def fail(self, node: Node, *, let: bool = False) -> None:
        if self.paused:
            return
        if self.pauses and not let:
            self.status = E.PAUSED
            self.paused_at = self.now
            self.paused_by_failure = True
            return
        self.end(E.FAILED, node.reason)

    def end(self, how: E, reason: str) -> None:
        """Head for an end: stop what may not run any more."""
        self.ending = how
        self.error = self.error or reason
        self.grace = self.now + GRACE_US
        if self.paused:
            self.status = E.RUNNING
        for node in self.having_turn():
            if node.over or not self.stopping(node):
                continue
            if node.items is not None and node.status == S.RUNNING:
                for unit in node.active():
                    self.stop(node, unit)
                self.go_on(node)
            else:
                self.stop(node, node)

    def stop(self, node: Node, unit: Unit) -> bool:
        """Cancel a unit that nobody works for; return whether somebody is asked to stop."""
        works = node.spec.kind == TaskKind.COMPONENT or unit.child is not None
        if unit.status in (S.SCHEDULED, S.RUNNING) and works:
            return True
        self.decide(node, unit, S.CANCELLED)
        return False

    def next_phase(self) -> bool:
        """Begin the next phase or finish; return whether there may be more to follow."""
        if self.phase == Phase.COMPENSATION:
            return self.compensate()
        if self.ending is None:
            leaves = {one for node in self.main() for one in node.spec.after}
            parts = [
                b'"%s":%s' % (node.spec.id.encode(), self.output(node))
                for node in self.main()
                if node.spec.id not in leaves and node.status == S.COMPLETED
            ]
            self.result = b"{" + b",".join(parts) + b"}"
            self.status = E.COMPLETED
            return False
        if self.ending == E.FAILED and self.phase == Phase.MAIN and self.on_failure():
            self.phase = Phase.ON_FAILURE
            self.failed_over = True
            for node in self.on_failure():
                if not node.spec.after and node.status == S.PENDING:
                    self.judge(node)
            return True
        if self.undo:
            self.phase = Phase.COMPENSATION
            self.compensated = True
            self.deadline = self.now + self.timeout
            for task, item in self.undo:
                undone = self.tasks[task]
                if item != NO_ITEM:
                    self.undoer_of(undone).items = [Unit() for _ in undone.items or []]
            return self.compensate()
        self.status = self.ending
        return False

    @staticmethod
    def output(node: Node) -> bytes:
        if node.items is None:
            return node.output or b"null"
        return b"[" + b",".join(unit.output or b"null" for unit in node.items) + b"]"

    def compensate(self) -> bool:
        """Begin the next compensation unless one runs; finish after the last."""
        while (turn := self.undoer()) is not None:
            node, item = turn
            unit = node.unit(item)
            if unit.status != S.PENDING:
                return False
            if self.cut:
                break
            condition = node.spec.condition
            answer = condition.answer if isinstance(condition, Verdict) else True
            if answer is None:
                self.decide(node, unit, S.FAILED, "EXPRESSION_ERROR")
            elif answer:
                self.open(node, unit)
                return False
            else:
                self.decide(node, unit, S.SKIPPED)
        assert self.ending is not None
        self.status = self.ending
        for task, item in self.undo:
            node = self.undoer_of(self.tasks[task])
            unit = node.unit(item)
            allowed = unit.status in FAILURES and node.spec.allow_failure
            if unit.status not in (S.COMPLETED, S.SKIPPED) and not allowed:
                self.status, self.error = E.FAILED, "COMPENSATION_FAILED"
        return False
