"""Small compiled plans, written by hand, for tests of the core and of the loops around it."""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bend_server.core import limits
from bend_server.core.model import Outcome, Phase, RunIf, StartRow, TaskKind, TaskStatus
from bend_server.core.plan import (
    CachePlan,
    ConcurrencyPlan,
    Condition,
    InputTemplate,
    ItemsTemplate,
    OutputTemplate,
    Plan,
    Rendered,
    RepeatPlan,
    RetryPolicy,
    Scope,
    SlotPlan,
    TaskPlan,
)

NOW_US = 1_750_000_000_000_000
NO_RETRY = RetryPolicy(attempts_max=1)


def render_nothing(scope: Scope) -> Rendered:
    """Render an empty input."""
    return Rendered(b"{}")


@dataclass(kw_only=True)
class Task:
    """What a test says of a task; the dependencies by id."""

    id: str
    after: Sequence[str] = ()
    run_if: RunIf = RunIf.SUCCESS
    condition: Condition | None = None
    allow_failure: bool = False
    retry: RetryPolicy = NO_RETRY
    component: str = "test.echo"
    render: InputTemplate = render_nothing
    timeout_us: int = limits.TASK_TIMEOUT_US
    kind: TaskKind = TaskKind.COMPONENT
    phase: Phase = Phase.MAIN
    for_each: ItemsTemplate | None = None
    parallel_max: int = limits.PARALLEL_DEFAULT
    repeat: RepeatPlan | None = None
    undoes: str | None = None
    cache: CachePlan | None = None
    slots: tuple[SlotPlan, ...] = ()
    schedule_timeout_us: int = limits.SCHEDULE_TIMEOUT_US

    @property
    def plain(self) -> bool:
        """Whether the task uses nothing of control flow."""
        return (
            self.kind == TaskKind.COMPONENT
            and self.phase == Phase.MAIN
            and self.for_each is None
            and self.repeat is None
            and self.cache is None
            and not self.slots
        )


def _compiled(tasks: Sequence[Task], index: Mapping[str, int]) -> tuple[TaskPlan, ...]:
    successors: list[list[int]] = [[] for _ in tasks]
    for position, task in enumerate(tasks):
        for name in task.after:
            successors[index[name]].append(position)
    undone_by = {task.undoes: index[task.id] for task in tasks if task.undoes is not None}
    return tuple(
        TaskPlan(
            index=position,
            id=task.id,
            component=task.component,
            dependencies=tuple(index[name] for name in task.after),
            successors=tuple(successors[position]),
            run_if=task.run_if,
            condition=task.condition,
            render=task.render,
            allow_failure=task.allow_failure,
            retry=task.retry,
            timeout_us=task.timeout_us,
            schedule_timeout_us=task.schedule_timeout_us,
            cache=task.cache,
            slots=task.slots,
            kind=task.kind,
            phase=task.phase,
            for_each=task.for_each,
            parallel_max=task.parallel_max,
            repeat=task.repeat,
            compensated_by=undone_by.get(task.id),
            compensates=None if task.undoes is None else index[task.undoes],
        )
        for position, task in enumerate(tasks)
    )


def make_plan(
    tasks: Sequence[Task],
    *,
    output: OutputTemplate | None = None,
    timeout_us: int = limits.EXECUTION_TIMEOUT_US,
    workflow: str = "w",
    pause_on_failure: bool = False,
    concurrency: ConcurrencyPlan | None = None,
    input_schema: Mapping[str, object] | None = None,
    priority: int = 5,
) -> Plan:
    """Compile tasks into a plan, as `bend_server.language` would.

    MAIN tasks come first, then ON_FAILURE, then COMPENSATION ones, which say what they undo.
    """
    index = {task.id: position for position, task in enumerate(tasks)}
    compiled = _compiled(tasks, index)
    main = tuple(task for task in compiled if task.phase == Phase.MAIN)
    on_failure = tuple(task for task in compiled if task.phase == Phase.ON_FAILURE)
    return Plan(
        namespace="default",
        workflow=workflow,
        revision=1,
        tasks=compiled,
        index=index,
        dependency_counts=array("I", [len(task.dependencies) for task in compiled]),
        roots=tuple(task.index for task in main if not task.dependencies),
        leaves=tuple(task.index for task in main if not task.successors),
        timeout_us=timeout_us,
        output=output,
        main_count=len(main),
        concurrency=concurrency,
        input_schema=input_schema,
        priority=priority,
        pause_on_failure=pause_on_failure,
        failure_roots=tuple(task.index for task in on_failure if not task.dependencies),
        plain=not pause_on_failure and all(task.plain for task in tasks),
    )


def chain(length: int) -> Plan:
    """Return a plan of tasks t0, t1, … each after the one before."""
    return make_plan([Task(id=f"t{i}", after=(f"t{i - 1}",) if i else ()) for i in range(length)])


def start_row(
    plan: Plan, *, execution: int = 7 << 22, status: int = 2, input_: bytes = b"{}"
) -> StartRow:
    """Return the row of an accepted execution of a plan."""
    return StartRow(
        id=execution,
        public_id=f"{plan.workflow}-{execution}",
        namespace=plan.namespace,
        workflow=plan.workflow,
        revision=plan.revision,
        partition=0,
        run=1,
        status=status,
        priority=5,
        concurrency_key=None,
        parent=None,
        parent_task=None,
        root=None,
        rerun_of=None,
        request_id=None,
        request_hash=None,
        actor="",
        input=input_,
        labels=b"{}",
        trace="",
        started_us=NOW_US,
        deadline_us=NOW_US + plan.timeout_us,
    )


def completed(task: int, try_: int = 1, output: bytes = b"1", now_us: int = NOW_US) -> Outcome:
    """Return a COMPLETED outcome."""
    return Outcome(
        task, -1, try_, TaskStatus.COMPLETED, output, None, None, "w1", 1, 0, now_us - 10, now_us
    )
