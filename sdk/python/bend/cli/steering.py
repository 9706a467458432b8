"""`bend executions pause|resume|retry|reset|rerun|signal`: what steers an execution."""

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import click

from bend.cli.console import note, print_json
from bend.cli.mesh_options import mesh_options, with_client
from bend.cli.parameters import read_parameters, read_value

if TYPE_CHECKING:
    from bend.client import Client

EXECUTION = click.argument("execution_id", metavar="EXECUTION")
EXECUTIONS = click.argument("execution_ids", nargs=-1, required=True, metavar="EXECUTION…")
REASON = click.option("--reason", default="", help="For the record.")
REQUEST = click.option("--request-id", help="Makes a repeat of the command harmless.")
AS_JSON = click.option("--json", "as_json", is_flag=True, help="A JSON document.")

Answer = dict[str, Any]


def each(
    mesh: dict[str, Any],
    execution_ids: tuple[str, ...],
    ask: "Callable[[Client, str], Coroutine[Any, Any, Answer]]",
    *,
    as_json: bool,
    told: Callable[[Answer], str],
) -> None:
    """Ask something of each execution in turn, then print what came of it."""

    async def work(client: "Client") -> list[Answer]:
        return [{"execution_id": name} | await ask(client, name) for name in execution_ids]

    answers = with_client(mesh, work)
    if as_json:
        print_json({"executions": answers})
        return
    for answer in answers:
        note(f"{answer['execution_id']}: {told(answer)}")


def status_told(answer: Answer) -> str:
    """Say an execution's status."""
    return str(answer["status"]).lower()


@click.command()
@EXECUTIONS
@REASON
@AS_JSON
@mesh_options
def pause(
    mesh: dict[str, Any], execution_ids: tuple[str, ...], reason: str, *, as_json: bool
) -> None:
    """Hold executions: running tasks finish, nothing new begins."""

    async def ask(client: "Client", execution_id: str) -> Answer:
        return {"status": await client.pause(execution_id, reason)}

    each(mesh, execution_ids, ask, as_json=as_json, told=status_told)


@click.command()
@EXECUTIONS
@AS_JSON
@mesh_options
def resume(mesh: dict[str, Any], execution_ids: tuple[str, ...], *, as_json: bool) -> None:
    """Let paused executions go on."""

    async def ask(client: "Client", execution_id: str) -> Answer:
        return {"status": await client.resume(execution_id)}

    each(mesh, execution_ids, ask, as_json=as_json, told=status_told)


@click.command()
@EXECUTIONS
@REASON
@AS_JSON
@mesh_options
def retry(
    mesh: dict[str, Any], execution_ids: tuple[str, ...], reason: str, *, as_json: bool
) -> None:
    """Do again what failed; what completed is kept."""

    async def ask(client: "Client", execution_id: str) -> Answer:
        return {"run": await client.retry(execution_id, reason)}

    each(mesh, execution_ids, ask, as_json=as_json, told=lambda answer: f"run {answer['run']}")


@click.command()
@EXECUTION
@click.option("--task", required=True, help="The first task to do again.")
@REASON
@REQUEST
@AS_JSON
@mesh_options
def reset(mesh: dict[str, Any], execution_id: str, *, as_json: bool, **options: Any) -> None:
    """Do a task again, and all that follows it; the rest is kept."""

    async def ask(client: "Client", name: str) -> Answer:
        return {"run": await client.reset(name, **options)}

    each(mesh, (execution_id,), ask, as_json=as_json, told=lambda answer: f"run {answer['run']}")


@click.command(short_help="Start a new execution with another's input.")
@EXECUTION
@click.option("-p", "pairs", multiple=True, metavar="KEY=VALUE", help="One parameter; repeatable.")
@click.option("--input", "input_file", metavar="FILE|-", help="JSON or YAML parameters.")
@click.option("--merge", is_flag=True, help="Keep the old parameters that are not given.")
@click.option("--revision", type=click.IntRange(0), default=0, help="Default: the old one's.")
@REQUEST
@AS_JSON
@mesh_options
def rerun(
    mesh: dict[str, Any],
    execution_id: str,
    pairs: tuple[str, ...],
    input_file: str | None,
    *,
    as_json: bool,
    **options: Any,
) -> None:
    """Start a new execution with another's input, wholly or partly replaced.

    Without -p and --input the input stays the same; -p alone implies --merge.
    """
    given = read_parameters(pairs, input_file, {}) if pairs or input_file else None
    options["merge"] = options["merge"] or (bool(pairs) and not input_file)
    made = with_client(mesh, lambda client: client.rerun(execution_id, given, **options))
    if as_json:
        print_json({"execution_id": made, "rerun_of": execution_id})
    else:
        click.echo(made)


@click.command()
@EXECUTION
@click.argument("name")
@click.argument("payload", default="null")
@REQUEST
@AS_JSON
@mesh_options
def signal(
    mesh: dict[str, Any],
    execution_id: str,
    name: str,
    payload: str,
    request_id: str | None,
    *,
    as_json: bool,
) -> None:
    """Give an execution the signal NAME; PAYLOAD is JSON, or a text."""
    value = read_value("payload", payload, {})

    async def ask(client: "Client", one: str) -> Answer:
        return {"delivered": await client.signal(one, name, value, request_id=request_id)}

    each(
        mesh,
        (execution_id,),
        ask,
        as_json=as_json,
        told=lambda answer: "taken by a task" if answer["delivered"] else "kept for the next task",
    )


COMMANDS = (pause, resume, retry, reset, rerun, signal)
