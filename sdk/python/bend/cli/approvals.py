"""`bend approvals`: list what waits for a person, and decide it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from bend.cli.console import age, note, print_json, print_table
from bend.cli.mesh_options import mesh_options, with_client
from bend.cli.parameters import read_parameters

if TYPE_CHECKING:
    from bend.decisions import ApprovalInfo

AS_JSON = click.option("--json", "as_json", is_flag=True, help="A JSON document.")


@click.group()
def approvals() -> None:
    """Decide what waits for a person."""


@approvals.command("list")
@click.option("--execution", "execution_id", default="", help="Only of this execution.")
@click.option("--status", default="PENDING", show_default=True, help="Which ones.")
@click.option("--assignee", default="", help="Only those that this user may decide.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True)
@AS_JSON
@mesh_options
def list_(mesh: dict[str, Any], *, as_json: bool, **filters: Any) -> None:
    """List approvals, oldest first."""
    found = with_client(mesh, lambda client: client.list_approvals(**filters))
    if as_json:
        print_json({"approvals": [one.as_json() for one in found]})
        return
    print_table(
        ("approval", "title", "status", "task", "execution", "assignees", "asked"),
        (
            (
                one.approval_id,
                one.title,
                one.status,
                one.task if one.item < 0 else f"{one.task}[{one.item}]",
                one.execution_id,
                ", ".join(one.assignees) or "everybody",
                f"{age(one.created_at)} ago",
            )
            for one in found
        ),
        empty="no approvals",
    )


def decision(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what both answers take."""
    decorated = AS_JSON(mesh_options(command))
    for option in (
        click.option(
            "--input", "input_file", metavar="FILE|-", help="The form's data, JSON or YAML."
        ),
        click.option(
            "-p", "pairs", multiple=True, metavar="KEY=VALUE", help="A field of the form."
        ),
        click.option("--comment", default="", help="For the record, and in the task's output."),
        click.argument("approval_id", metavar="APPROVAL"),
    ):
        decorated = option(decorated)
    return decorated


@approvals.command()
@decision
def approve(mesh: dict[str, Any], approval_id: str, *, as_json: bool, **given: Any) -> None:
    """Say yes."""
    decide(mesh, approval_id, approved=True, as_json=as_json, **given)


@approvals.command()
@decision
def reject(mesh: dict[str, Any], approval_id: str, *, as_json: bool, **given: Any) -> None:
    """Say no."""
    decide(mesh, approval_id, approved=False, as_json=as_json, **given)


def decide(
    mesh: dict[str, Any],
    approval_id: str,
    pairs: tuple[str, ...],
    input_file: str | None,
    comment: str,
    *,
    approved: bool,
    as_json: bool,
) -> None:
    """Send a decision and print what became of it."""
    data = read_parameters(pairs, input_file, {}) if pairs or input_file else None
    done: ApprovalInfo = with_client(
        mesh,
        lambda client: client.decide(approval_id, approved=approved, comment=comment, data=data),
    )
    if as_json:
        print_json(done.as_json())
    else:
        note(f"{done.execution_id}: {done.task} {done.status.lower()} by {done.decided_by}")
