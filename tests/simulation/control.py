"""Shapes of control flow: items, rounds, waits, signals, children, queues, limits, undoing."""

from collections.abc import Mapping
from typing import Any

import orjson

from bend_server.core.model import Phase, TaskKind
from bend_server.core.plan import (
    CachePlan,
    ConcurrencyPlan,
    ConcurrencyStrategy,
    Rendered,
    RepeatPlan,
    RetryPolicy,
    Scope,
    SlotPlan,
)
from tests.kit.plans import Task

COMPONENT = "sim.work"
TIMEOUT_US = 20_000_000
SIGNAL = "go"


def task_of(name: str, *after: str, **options: Any) -> Task:
    """Return a task of the simulated component."""
    return Task(
        **{
            "id": name,
            "after": after,
            "component": COMPONENT,
            "retry": RetryPolicy(attempts_max=3, initial_us=500_000, max_us=4_000_000),
            "timeout_us": TIMEOUT_US,
            **options,
        }
    )


def _own(name: str, kind: TaskKind, body: object, *after: str, **options: Any) -> Task:
    data = orjson.dumps(body)

    def render(scope: Scope) -> Rendered:
        return Rendered(data)

    return Task(id=name, after=after, kind=kind, component="", render=render, **options)


def _four(scope: Scope) -> list[bytes]:
    return [b"0", b"1", b"2", b"3"]


def _twice_more(scope: Scope, output: bytes) -> bool:
    return scope.iteration < 2


def _key(scope: Scope) -> str:
    return "k"


def _same(scope: Scope) -> Rendered:
    return Rendered(b'{"from":[],"given":"same"}')


ONE_AT_A_TIME = ConcurrencyPlan(_key, 1, ConcurrencyStrategy.QUEUE)
_ROUNDS = RepeatPlan(_twice_more, 5, 1_000_000)
_WAIT, _CHILD = TaskKind.WAIT, TaskKind.WORKFLOW

CONTROL_SHAPES: Mapping[str, list[Task]] = {
    "items": [
        task_of("a"),
        task_of("each", "a", for_each=_four, parallel_max=2),
        task_of("b"),
    ],
    "spared": [task_of("each", for_each=_four, allow_failure=True), task_of("b", "each")],
    "rounds": [task_of("a", repeat=_ROUNDS), task_of("b", "a")],
    "item_rounds": [task_of("each", for_each=_four, parallel_max=3, repeat=_ROUNDS)],
    "rests": [task_of("a"), _own("rest", _WAIT, {"duration": "15s"}, "a"), task_of("b", "rest")],
    # So long that it leaves the engine's memory.
    "sleeps": [_own("rest", _WAIT, {"duration": "200s"}), task_of("b", "rest")],
    "asks": [
        task_of("a"),
        _own("hear", TaskKind.SIGNAL, {"name": SIGNAL, "timeout": "400s"}),
        task_of("b", "a", "hear"),
    ],
    "family": [
        _own("call", _CHILD, {"workflow": "single", "input": {}}, for_each=_four, parallel_max=2),
        task_of("b", "call"),
    ],
    "clan": [_own("call", _CHILD, {"workflow": "family", "input": {}}), task_of("b", "call")],
    # Children under a key that perhaps another engine decides about.
    "kin": [
        _own("call", _CHILD, {"workflow": "queued", "input": {}}, for_each=_four, parallel_max=2)
    ],
    "queued": [task_of("a"), task_of("b", "a")],
    "limited": [task_of("each", for_each=_four, slots=(SlotPlan(_key, 1, 0),))],
    "rated": [task_of("each", for_each=_four, slots=(SlotPlan(_key, 2, 3_000_000),))],
    "cached": [task_of("a", cache=CachePlan(3_600_000_000, None, True), render=_same)],
    "saga": [
        task_of("a"),
        task_of("b", "a", retry=RetryPolicy(attempts_max=1)),
        task_of("alarm", phase=Phase.ON_FAILURE),
        task_of("undo_a", phase=Phase.COMPENSATION, undoes="a"),
    ],
}
