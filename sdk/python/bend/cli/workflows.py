"""`bend workflows`: list, get, put, archive, restore, revisions."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml

from bend.cli.console import age, note, print_json, print_table
from bend.cli.mesh_options import mesh_options, with_client

if TYPE_CHECKING:
    from bend.client import Client
    from bend.stored import WorkflowInfo


@click.group()
def workflows() -> None:
    """Store workflows and look at them."""


@workflows.command("list")
@click.option("--archived", is_flag=True, help="List archived ones too.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=1000, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="A JSON document.")
@mesh_options
def list_(mesh: dict[str, Any], *, archived: bool, limit: int, as_json: bool) -> None:
    """List workflows by name."""
    found = with_client(mesh, lambda client: client.list_workflows(archived=archived, limit=limit))
    if as_json:
        print_json({"workflows": [one.as_json() for one in found]})
        return
    print_table(
        ("workflow", "revision", "tasks", "updated", "description"),
        (
            (
                one.name + (" (archived)" if one.archived else ""),
                str(one.revision),
                str(one.task_count),
                f"{age(one.updated_at)} ago",
                one.description,
            )
            for one in found
        ),
        empty="no workflows",
    )


@workflows.command()
@click.argument("name")
@click.option("--revision", type=int, default=0, help="Default: the newest.")
@click.option("--json", "as_json", is_flag=True, help="A JSON document.")
@mesh_options
def get(mesh: dict[str, Any], name: str, revision: int, *, as_json: bool) -> None:
    """Show a workflow with its document."""
    found = with_client(mesh, lambda client: client.get_workflow(name, revision=revision))
    if as_json:
        print_json(found.as_json())
        return
    archived = ", archived" if found.archived else ""
    note(f"{found.name} revision {found.revision}, digest {found.digest[:12]}{archived}")
    click.echo(
        yaml.safe_dump(found.document, sort_keys=False, allow_unicode=True, width=100).rstrip()
    )


@workflows.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="A JSON document.")
@mesh_options
def put(mesh: dict[str, Any], files: tuple[Path, ...], *, as_json: bool) -> None:
    """Store documents; one that did not change makes no revision."""

    async def work(client: "Client") -> "list[WorkflowInfo]":
        return [await client.deploy(path) for path in files]

    stored = with_client(mesh, work)
    if as_json:
        print_json({"workflows": [one.as_json() | {"created": one.created} for one in stored]})
        return
    for one in stored:
        click.echo(f"{one.name} revision {one.revision}{'' if one.created else ' (unchanged)'}")
    if stored:
        note(f"run it: bend run {stored[-1].name}")


@workflows.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
@mesh_options
def archive(mesh: dict[str, Any], names: tuple[str, ...]) -> None:
    """Archive workflows: they start nothing more, what runs goes on."""

    async def work(client: "Client") -> None:
        for name in names:
            await client.archive_workflow(name)
            note(f"archived {name}")

    with_client(mesh, work)


@workflows.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
@mesh_options
def restore(mesh: dict[str, Any], names: tuple[str, ...]) -> None:
    """Take workflows out of the archive."""

    async def work(client: "Client") -> None:
        for name in names:
            await client.restore_workflow(name)
            note(f"restored {name}")

    with_client(mesh, work)


@workflows.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="A JSON document.")
@mesh_options
def revisions(mesh: dict[str, Any], name: str, *, as_json: bool) -> None:
    """List the revisions of a workflow, newest first."""
    found = with_client(mesh, lambda client: client.list_revisions(name))
    if as_json:
        print_json({"revisions": [one.as_json() for one in found]})
        return
    print_table(
        ("revision", "digest", "created"),
        ((str(one.revision), one.digest[:12], f"{age(one.created_at)} ago") for one in found),
        empty="no revisions",
    )
