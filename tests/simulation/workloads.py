"""What the simulated mesh has to do: small workflows, and answers that follow from the seed."""

from collections.abc import Mapping
from dataclasses import replace
from random import Random
from typing import NamedTuple

import orjson

from bend_server.core.errors import NotFound
from bend_server.core.model import RunIf
from bend_server.core.plan import Hole, HolePart, Plan, Rendered, RetryPolicy, Scope
from bend_server.ports.store import WorkflowSummary
from tests.kit.plans import Task, make_plan, render_nothing
from tests.simulation.control import CONTROL_SHAPES, ONE_AT_A_TIME
from tests.simulation.control import task_of as _task

LONG_COMPONENT = "sim.long"
BIG_BYTES = 70_000
VERSION = "1.0.0"
NAMESPACE = "default"


class Answer(NamedTuple):
    """What the component does with one attempt.

    `kind`: complete, retryable, terminal, or hang (never answers). `after_s`: how long it takes.
    """

    kind: str
    after_s: float


class Temper:
    """How reliable the component is in one seed."""

    def __init__(self, seed: int, chance: Random) -> None:
        self._seed = seed
        self._failing = chance.choice((0.0, 0.1, 0.3))
        self._terminal = chance.choice((0.0, 0.02))
        self._hanging = chance.choice((0.0, 0.0, 0.02))
        self._slow = chance.choice((0.0, 0.1))

    def answer(self, execution: str, task: str, attempt: int) -> Answer:
        """Return the answer to an attempt: always the same one, whoever runs it."""
        chance = Random(f"{self._seed}/{execution}/{task}/{attempt}")
        dice = chance.random()
        if task == "wait" and attempt == 1:
            return Answer("retryable", dice)
        after_s = (
            chance.uniform(2.0, 12.0) if chance.random() < self._slow else chance.random() / 50
        )
        for kind, share in (
            ("terminal", self._terminal),
            ("hang", self._hanging),
            ("retryable", self._failing),
        ):
            if dice < share:
                return Answer(kind, after_s)
            dice -= share
        return Answer("complete", after_s)


class _Render:
    """An input that holds the outputs of the dependencies, so that data flows, too."""

    def __init__(self, dependencies: tuple[int, ...]) -> None:
        self._dependencies = dependencies

    def __call__(self, scope: Scope) -> Rendered:
        parts: list[bytes] = []
        holes: list[Hole] = []
        for task in self._dependencies:
            blob = scope.blob(task)
            if blob is not None:
                key, size = blob
                part = HolePart(blob=key, blob_bytes=size)
                holes.append(Hole(f"/from/{len(parts)}", (part,)))
                parts.append(b"null")
                continue
            output = scope.output(task)
            if output is not None:
                parts.append(output)
        data = b'{"from":[' + b",".join(parts) + b'],"given":' + scope.input + b"}"
        return Rendered(data, tuple(holes))


def _reads_first(scope: Scope) -> bool:
    """Return True after reading the first task's output, which needs its blob when it is big."""
    return scope.output(0) is not None


PATIENT = RetryPolicy(
    attempts_max=3, initial_us=200_000_000, max_us=200_000_000, multiplier=1.0, jitter=False
)
LONG = {"component": LONG_COMPONENT, "timeout_us": 90_000_000}

SHAPES: Mapping[str, list[Task]] = {
    "single": [_task("a")],
    "chain": [
        _task("a"),
        _task("b", "a"),
        _task("c", "b"),
        _task("d", "c"),
        _task("e", "d"),
    ],
    "fan": [*(_task(f"f{i}") for i in range(6)), _task("join", *(f"f{i}" for i in range(6)))],
    "diamond": [
        _task("a"),
        _task("b", "a"),
        _task("c", "a", allow_failure=True),
        _task("d", "b", "c"),
    ],
    "careful": [
        _task("a"),
        _task("b", "a"),
        _task("alarm", "a", "b", run_if=RunIf.FAILURE),
        _task("clean", "b", run_if=RunIf.ALWAYS),
    ],
    # Waits so long between attempts that it leaves the engine's memory.
    "patient": [_task("wait", retry=PATIENT), _task("b", "wait")],
    "long": [
        _task("a"),
        _task("b", "a", **LONG),
        _task("c", "a", **LONG),
        _task("d", "b", "c"),
    ],
    "heavy": [
        _task("big"),
        _task("b", "big", condition=_reads_first),
        _task("big2", "b"),
        _task("d", "big", "big2"),
    ],
    "hurried": [_task("a"), _task("b", "a", **LONG), _task("c", "b", run_if=RunIf.ALWAYS)],
}
TIMEOUTS_US = {"hurried": 15_000_000}


def _compile(name: str, tasks: list[Task]) -> Plan:
    index = {task.id: place for place, task in enumerate(tasks)}
    for task in tasks:
        if task.render is render_nothing:
            task.render = _Render(tuple(index[other] for other in task.after))
    plan = make_plan(tasks, workflow=name, timeout_us=TIMEOUTS_US.get(name, 3_600_000_000))
    return replace(plan, concurrency=ONE_AT_A_TIME) if name == "queued" else plan


PLANS: Mapping[str, Plan] = {
    name: _compile(name, tasks) for name, tasks in {**SHAPES, **CONTROL_SHAPES}.items()
}


class SimPlans:
    """`ports.plans.PlanSource` over the shapes."""

    def known(self, namespace: str, workflow: str, revision: int) -> Plan | None:
        """See ports.plans.PlanSource."""
        return PLANS.get(workflow)

    async def plan(self, namespace: str, workflow: str, revision: int) -> Plan:
        """See ports.plans.PlanSource."""
        try:
            return PLANS[workflow]
        except KeyError:
            raise NotFound(f"no workflow {workflow}", reason="WORKFLOW_NOT_FOUND") from None


def summaries() -> dict[tuple[str, str], WorkflowSummary]:
    """Return the workflows' rows."""
    return {
        (NAMESPACE, name): WorkflowSummary(
            name=name,
            namespace=NAMESPACE,
            revision=1,
            description="",
            labels=b"{}",
            archived=False,
            task_count=len(plan.tasks),
            created_us=0,
            updated_us=0,
        )
        for name, plan in PLANS.items()
    }


def unit_of(task: str, item: int, iteration: int) -> str:
    """Return the name of one round of one unit; `item` -1: of the task."""
    return f"{task}[{item}]#{iteration}" if item >= 0 or iteration else task


def output_of(execution: str, task: str, attempt: int, run_id: int) -> bytes:
    """Return the output that a hand-over gives; the hand-over is in it, to tell repeats apart."""
    body: dict[str, object] = {"of": f"{execution}/{task}/{attempt}", "run": str(run_id)}
    if task.startswith("big"):
        body["pad"] = "x" * BIG_BYTES
    return orjson.dumps(body)
