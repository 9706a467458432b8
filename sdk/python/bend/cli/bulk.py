"""`bend bulk`: cancel or retry many executions as a durable job."""

import asyncio
from typing import TYPE_CHECKING, Any

import click

from bend.cli.console import counted, note, print_json
from bend.cli.mesh_options import RETRY_S_WATCH, mesh_options, with_client

if TYPE_CHECKING:
    from bend.client import Client
    from bend.decisions import BulkInfo

POLL_S = 0.5
TIMES = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ"])


@click.group()
def bulk() -> None:
    """Cancel or retry many executions at once."""


@bulk.command()
@click.argument("action", type=click.Choice(["cancel", "retry"]))
@click.option("--workflow", default="", help="Only of this workflow.")
@click.option("--status", "statuses", multiple=True, help="Only in this status; repeatable.")
@click.option("--label", default="", metavar="KEY=VALUE", help="Only with this label.")
@click.option("--started-after", type=TIMES, help="Only started at or after (UTC).")
@click.option("--started-before", type=TIMES, help="Only started before (UTC).")
@click.option("--reason", default="", help="For the record.")
@click.option("--dry-run", is_flag=True, help="Only count.")
@click.option("--wait", "wait_for_end", is_flag=True, help="Until all are done.")
@click.option("--json", "as_json", is_flag=True, help="A JSON document.")
@mesh_options
def start(
    mesh: dict[str, Any], action: str, *, wait_for_end: bool, as_json: bool, **filters: Any
) -> None:
    """Start a job; it goes on by itself, also after a crash."""
    keys = ("workflow", "statuses", "label", "started_after", "started_before")
    if not any(filters[key] for key in keys):
        raise click.UsageError("say which executions: --workflow, --status, --label, --started-…")

    async def work(client: "Client") -> "BulkInfo":
        job = await client.bulk(action, **filters)
        while wait_for_end and job.state == "RUNNING":
            await asyncio.sleep(POLL_S)
            job = await client.get_bulk(job.bulk_id)
        return job

    show(with_client(mesh, work, retry_s=RETRY_S_WATCH), as_json=as_json)


@bulk.command()
@click.argument("bulk_id", metavar="JOB")
@click.option("--json", "as_json", is_flag=True, help="A JSON document.")
@mesh_options
def get(mesh: dict[str, Any], bulk_id: str, *, as_json: bool) -> None:
    """Show a job's progress."""
    show(with_client(mesh, lambda client: client.get_bulk(bulk_id)), as_json=as_json)


def show(job: "BulkInfo", *, as_json: bool) -> None:
    """Print a job."""
    if as_json:
        print_json(job.as_json())
        return
    if job.dry_run:
        refused = f", {job.refused} would refuse" if job.refused else ""
        note(f"{counted(job.matched - job.refused, 'execution')} would be changed{refused}")
        for name in job.sample:
            click.echo(name)
        return
    refused = f", {job.refused} refused" if job.refused else ""
    note(f"{job.state.lower()}: {job.done} of {counted(job.matched, 'execution')}{refused}")
    click.echo(job.bulk_id)
