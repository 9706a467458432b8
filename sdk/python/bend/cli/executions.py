"""`bend executions`: list, get, watch, cancel, tasks; what steers them is in `steering`."""

from typing import TYPE_CHECKING, Any

import click

from bend.cli import exits
from bend.cli.console import age, compact, note, print_json, print_table, took
from bend.cli.durations import Span
from bend.cli.following import follow, report
from bend.cli.guidance import steps_of, waits_of
from bend.cli.mesh_options import RETRY_S_WATCH, mesh_options, with_client
from bend.cli.steering import COMMANDS

if TYPE_CHECKING:
    from bend.client import Client
    from bend.models import Execution, TaskRun

OUTPUT_CHARS = 60


@click.group()
def executions() -> None:
    """Look at executions and steer them."""


for _command in COMMANDS:
    executions.add_command(_command)


@executions.command("list")
@click.option("--workflow", default="", help="Only of this workflow.")
@click.option("--status", "statuses", multiple=True, help="Only in this status; repeatable.")
@click.option("--label", default="", metavar="KEY=VALUE", help="Only with this label.")
@click.option("--active", is_flag=True, help="Only those that have not ended.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=20, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="A JSON document.")
@mesh_options
def list_(mesh: dict[str, Any], *, as_json: bool, **filters: Any) -> None:
    """List executions, newest first."""
    if filters["active"] and (filters["workflow"] or filters["statuses"] or filters["label"]):
        raise click.UsageError("--active excludes --workflow, --status and --label")
    found = with_client(mesh, lambda client: client.list_executions(**filters))
    if as_json:
        print_json({"executions": [summary(one) for one in found]})
        return
    print_table(
        ("execution", "workflow", "revision", "status", "started", "took"),
        (
            (
                one.execution_id,
                one.workflow,
                str(one.revision),
                one.status,
                f"{age(one.started_at)} ago",
                took(one.duration_ms),
            )
            for one in found
        ),
        empty="no executions",
    )


def summary(one: "Execution") -> dict[str, Any]:
    """Return an execution's JSON form without what a list does not carry."""
    document = one.as_json()
    for key in ("output", "tasks"):
        del document[key]
    return document


@executions.command(short_help="Show where one stands and why it waits.")
@click.argument("execution_id", metavar="EXECUTION")
@click.option("--json", "as_json", is_flag=True, help="A JSON document.")
@mesh_options
def get(mesh: dict[str, Any], execution_id: str, *, as_json: bool) -> None:
    """Show one execution: where it stands, why it waits, its tasks, its output."""
    found = with_client(mesh, lambda client: client.get(execution_id))
    if as_json:
        print_json(found.as_json())
        return
    click.echo(f"{found.execution_id}")
    click.echo(f"  workflow  {found.workflow} revision {found.revision}")
    run = f", run {found.run}" if found.run > 1 else ""
    paused = f" ({found.pause_reason})" if found.pause_reason else ""
    click.echo(f"  status    {found.status}{paused}{run}")
    for label, text in (
        ("child of", found.parent_execution_id),
        ("rerun of", found.rerun_of),
        ("key", found.concurrency_key),
    ):
        if text:
            click.echo(f"  {label:<9} {text}")
    if found.started_at:
        span = took(found.duration_ms)
        span = f"took {span}" if found.terminal else f"{span} ago"
        click.echo(f"  started   {found.started_at:%Y-%m-%d %H:%M:%S} UTC, {span}")
    for reason in waits_of(found):
        click.echo(f"  waits     {reason}")
    if found.error:
        click.echo(f"  error     {found.error}")
    if found.tasks:
        click.echo("")
        print_tasks(list(found.tasks))
    if found.output_json:
        from bend.models import fragment

        click.echo("")
        print_json(fragment(found.output_json), pretty=True)
    for step in steps_of(found):
        note(step)


@executions.command()
@click.argument("execution_id", metavar="EXECUTION")
@click.option("--json", "as_json", is_flag=True, help="A JSON document.")
@mesh_options
def tasks(mesh: dict[str, Any], execution_id: str, *, as_json: bool) -> None:
    """List the tasks of an execution in the document's order."""
    found = with_client(mesh, lambda client: client.list_tasks(execution_id))
    if as_json:
        print_json(
            {"tasks": [{"task": one.task, "item": one.item} | one.as_json() for one in found]}
        )
        return
    print_tasks(found)


def print_tasks(found: "list[TaskRun]") -> None:
    """Print tasks as a table; the last column says what is most useful to know."""
    print_table(
        ("task", "status", "attempt", "took", "detail"),
        (
            (
                one.task if one.item < 0 else f"{one.task}[{one.item}]",
                one.status,
                str(one.attempt or "-"),
                span_of(one),
                detail_of(one),
            )
            for one in found
        ),
        empty="no tasks",
    )


def detail_of(one: "TaskRun") -> str:
    """Return what is most useful to know of a task in one line."""
    if one.waiting:
        return one.waiting
    if one.error:
        return str(one.error)
    child = f"{one.child_execution_id} " if one.child_execution_id else ""
    items = f"{one.item_count} items " if one.item_count else ""
    return f"{child}{items}{compact(one.output_json, OUTPUT_CHARS)}"


def span_of(one: "TaskRun") -> str:
    """Return how long the counted attempt took."""
    if one.started_at is None or one.finished_at is None:
        return "-"
    return took((one.finished_at - one.started_at).total_seconds() * 1000)


@executions.command()
@click.argument("execution_id", metavar="EXECUTION")
@click.option("--cursor", default="", help="Resume after this event.")
@click.option("--states-only", is_flag=True, help="Leave out partial outputs and logs.")
@click.option("--timeout", type=Span(), help="Watch at most so long, then exit 8.")
@click.option("--json", "as_json", is_flag=True, help="A JSON line per event.")
@mesh_options
def watch(mesh: dict[str, Any], execution_id: str, *, as_json: bool, **options: Any) -> None:
    """Follow an execution to its end."""

    async def work(client: "Client") -> int:
        done = await follow(client, execution_id, as_json=as_json, **options)
        return report(done, as_json=as_json, quiet=True)

    raise SystemExit(with_client(mesh, work, retry_s=RETRY_S_WATCH))


@executions.command()
@click.argument("execution_ids", nargs=-1, required=True, metavar="EXECUTION…")
@click.option("--reason", default="", help="For the record.")
@click.option("--wait", "wait_for_end", is_flag=True, help="Until they have ended.")
@click.option("--json", "as_json", is_flag=True, help="A JSON document.")
@mesh_options
def cancel(
    mesh: dict[str, Any],
    execution_ids: tuple[str, ...],
    reason: str,
    *,
    wait_for_end: bool,
    as_json: bool,
) -> None:
    """Cancel executions; running tasks get 10 s to stop."""

    async def work(client: "Client") -> list[tuple[str, str]]:
        done = []
        for execution_id in execution_ids:
            status = await client.cancel(execution_id, reason)
            if wait_for_end:
                status = (await client.wait(execution_id)).status
            done.append((execution_id, status))
        return done

    done = with_client(mesh, work)
    if as_json:
        print_json({"executions": [{"execution_id": name, "status": st} for name, st in done]})
    else:
        for name, status in done:
            note(f"{name}: {'cancelling' if status == 'RUNNING' else status.lower()}")
    raise SystemExit(exits.OK)
