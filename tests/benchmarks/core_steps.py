"""What the core alone costs: microseconds per step, and bytes per waiting execution.

`python -m tests.benchmarks.core_steps` prints one JSON line per figure.
"""

import json
import time
import tracemalloc

from bend_server.core import machine
from bend_server.core.effects import Effects
from bend_server.core.model import ITEM_NONE, Outcome, StartRow, TaskStatus
from bend_server.core.state import ExecutionState
from tests.kit.machine_run import FullJitter
from tests.kit.plans import NOW_US, chain, start_row

STEPS = 5


def steps_us(executions: int = 10_000, in_flight: int = 256) -> float:
    """Return the CPU microseconds per step of chains of 5: start, apply, finish."""
    plan = chain(STEPS)
    rows = [start_row(plan, execution=(i + 1) << 22) for i in range(executions)]
    chance = FullJitter()
    output = b'{"value":12345,"text":"a short output of a component"}'
    spent_ns = 0
    for first in range(0, executions, in_flight):
        effects = Effects()
        began_ns = time.process_time_ns()
        for row in rows[first : first + in_flight]:
            machine.start(machine.begin(plan, row), NOW_US, chance, effects)
        spent_ns += time.process_time_ns() - began_ns
        while effects.ready:
            outcomes = [
                (ready.state, _outcome(ready.task, ready.try_, output)) for ready in effects.ready
            ]
            effects = Effects()
            began_ns = time.process_time_ns()
            for state, outcome in outcomes:
                machine.apply(state, outcome, NOW_US, chance, effects)
            spent_ns += time.process_time_ns() - began_ns
        if not effects.finishes:
            raise RuntimeError("the executions did not finish")
    return spent_ns / 1000 / (executions * STEPS)


def _outcome(task: int, try_: int, output: bytes) -> Outcome:
    return Outcome(
        task,
        ITEM_NONE,
        try_,
        TaskStatus.COMPLETED,
        output,
        None,
        None,
        "worker-1",
        99,
        0,
        NOW_US,
        NOW_US,
    )


def _accepted(plan_start: StartRow, index: int) -> StartRow:
    """Return a start row with the fields of its own that every execution has."""
    execution = (index + 1_000_000) << 22
    return plan_start._replace(
        id=execution,
        public_id=f"w-{execution}",
        input=b'{"indicator":"192.168.%d.%d"}' % (index >> 8, index & 255),
        started_us=NOW_US + index,
        deadline_us=NOW_US + index + 86_400_000_000,
    )


def waiting_bytes(executions: int = 2_000) -> float:
    """Return the bytes of memory per 5-task execution whose first task waits."""
    plan = chain(STEPS)
    template = start_row(plan)
    chance = FullJitter()
    states: list[ExecutionState] = []
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for index in range(executions):
            state = machine.begin(plan, _accepted(template, index))
            machine.start(state, NOW_US, chance, Effects())
            states.append(state)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return (after - before) / len(states)


def rows() -> list[dict[str, object]]:
    """Return the benchmark's rows."""
    return [
        {"name": "core_us_per_step", "value": round(steps_us(), 2), "unit": "us"},
        {"name": "core_waiting_bytes", "value": round(waiting_bytes()), "unit": "B"},
    ]


def main() -> None:
    """Print the rows."""
    for row in rows():
        print(json.dumps(row))


if __name__ == "__main__":
    main()
