"""What an execution waits for, and the commands that let it go on."""

import asyncio
from typing import TYPE_CHECKING

from bend.cli.console import note

if TYPE_CHECKING:
    from bend.client import Client
    from bend.models import Execution

# `bend run` says nothing about a wait that is over so soon; then it looks once in a while.
FIRST_LOOK_S = 3.0
NEXT_LOOK_S = 15.0
WAITS_SHOWN_MAX = 10


def waits_of(execution: "Execution") -> list[str]:
    """Return what an execution waits for, a line each: the server's words, else its tasks'."""
    if execution.terminal:
        return []
    found = list(execution.waiting) or [
        f"{one.task if one.item < 0 else f'{one.task}[{one.item}]'}: {one.waiting}"
        for one in execution.tasks
        if one.waiting
    ]
    more = len(found) - WAITS_SHOWN_MAX
    return found if more <= 0 else [*found[:WAITS_SHOWN_MAX], f"and {more} more"]


def steps_of(execution: "Execution") -> list[str]:
    """Return the commands that let an execution go on, where it needs somebody."""
    name = execution.execution_id
    if execution.terminal:
        return []
    if execution.pause_reason == "QUARANTINED":
        return [f"start it anew: bend executions rerun {name}"]
    if execution.status == "PAUSED":
        resume = f"go on: bend executions resume {name}"
        if execution.pause_reason != "TASK_FAILED":
            return [resume]
        return [
            f"try again what failed: bend executions retry {name}",
            f"let it fail: bend executions resume {name}",
        ]
    steps = []
    waits = [one.waiting.partition(" ") for one in execution.tasks if one.waiting]
    if any(kind == "approval" for kind, _, _ in waits):
        steps.append(f"decide: bend approvals list --execution {name}")
    signals = [rest.partition(" until ")[0] for kind, _, rest in waits if kind == "signal"]
    steps += [
        f"send it: bend executions signal {name} {signal}" for signal in dict.fromkeys(signals)
    ]
    return steps[:WAITS_SHOWN_MAX]


async def wait_telling(client: "Client", execution_id: str, timeout: float | None) -> "Execution":
    """Wait for the end; say on stderr, once each, what needs somebody meanwhile.

    Args:
        timeout: seconds at most; then the execution is answered as it stands. None: for ever.
    """
    loop = asyncio.get_running_loop()
    end = None if timeout is None else loop.time() + timeout
    look_s, told = FIRST_LOOK_S, set[str]()
    while True:
        left = None if end is None else end - loop.time()
        if left is not None and left <= look_s:
            done = await client.wait(execution_id, timeout=max(0.001, left))
            return done if done.terminal else await client.get(execution_id)
        done = await client.wait(execution_id, timeout=look_s)
        if done.terminal:
            return done
        look_s = NEXT_LOOK_S
        stands = await client.get(execution_id)
        steps = [step for step in steps_of(stands) if step not in told]
        if steps:
            told.update(steps)
            for line in (*waits_of(stands), *steps):
                note(f"  {line}")
