"""What `run --watch`, `executions watch`, `wait` and `run` share: follow to the end, report it."""

import asyncio
import sys
from typing import TYPE_CHECKING

import click
import orjson

from bend.cli import exits
from bend.cli.console import note, print_json, took
from bend.cli.guidance import steps_of, waits_of
from bend.cli.progress import progress_view

if TYPE_CHECKING:
    from bend.client import Client
    from bend.models import Execution


async def follow(
    client: "Client",
    execution_id: str,
    *,
    as_json: bool,
    timeout: float | None,
    cursor: str = "",
    states_only: bool = False,
) -> "Execution":
    """Show an execution's progress until it ends or `timeout` seconds passed; return it."""
    try:
        async with asyncio.timeout(timeout):
            if as_json:
                async for event in client.watch(
                    execution_id, cursor=cursor, states_only=states_only
                ):
                    line = {"execution_id": execution_id} | event.as_json()
                    click.echo(orjson.dumps(line).decode())
                    sys.stdout.flush()
            else:
                known = await client.get(execution_id)
                view = progress_view()
                view.begin(known)
                with view:
                    async for event in client.watch(
                        execution_id, cursor=cursor, states_only=states_only
                    ):
                        view.apply(event)
    except TimeoutError:
        return await client.get(execution_id)
    return await client.get(execution_id)


def report(execution: "Execution", *, as_json: bool, quiet: bool = False) -> int:
    """Print how an execution ended; return the exit code.

    Args:
        execution: as last read.
        as_json: one document on stdout.
        quiet: nothing on stdout, the events have been printed already.
    """
    code = exits.code_of_status(execution.status)
    if as_json:
        if not quiet:
            print_json(execution.as_json())
        return code
    name = execution.execution_id
    if execution.status == "COMPLETED":
        note(f"completed {name} in {took(execution.duration_ms)}")
        print_json(orjson.Fragment(execution.output_json or b"null"), pretty=True)
    elif execution.terminal:
        status = execution.status.lower().replace("_", " ")
        why = f": {execution.error}" if execution.error else ""
        note(f"{status} {name} after {took(execution.duration_ms)}{why}")
        note(f"see: bend executions get {name}")
    else:
        paused = f" ({execution.pause_reason})" if execution.pause_reason else ""
        note(f"{name} is still {execution.status.lower()}{paused}")
        for reason in waits_of(execution):
            note(f"  waits: {reason}")
        for step in steps_of(execution) or [f"see: bend executions watch {name}"]:
            note(step)
    return code
