"""`bend run`, `bend wait`: start an execution, wait for it, show how it goes."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml

from bend.cli import exits
from bend.cli.console import note, print_json
from bend.cli.durations import Span
from bend.cli.following import follow, report
from bend.cli.guidance import wait_telling
from bend.cli.mesh_options import (
    RETRY_S_WATCH,
    labels_of,
    mesh_options,
    with_client,
)
from bend.cli.parameters import read_parameters, schema_in

if TYPE_CHECKING:
    from bend.client import Client

SUFFIXES = {".yaml", ".yml", ".json"}


@click.command()
@click.argument("target", metavar="FILE|NAME")
@click.option("-p", "pairs", multiple=True, metavar="KEY=VALUE", help="One parameter; repeatable.")
@click.option(
    "--input", "input_file", metavar="FILE|-", help="Parameters as a JSON or YAML object."
)
@click.option("--watch", is_flag=True, help="Show progress by task.")
@click.option("--detach", is_flag=True, help="Return as soon as the start is durable.")
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON document; with --watch a line each."
)
@click.option("--timeout", type=Span(), help="Wait at most so long, then exit 8. It runs on.")
@click.option("--request-id", help="A repeat with the same id answers the first execution.")
@click.option("--execution-id", default="", help="Choose the execution's id.")
@click.option("--revision", type=int, default=0, help="Of a stored workflow; default the newest.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Repeatable.")
@mesh_options
def run(mesh: dict[str, Any], **options: Any) -> None:
    """Run a workflow and wait for its end.

    FILE is stored first, as a new revision only if it changed; NAME is a stored workflow.
    The output goes to stdout. Going away (Ctrl-C) cancels nothing.
    """
    if options["watch"] and options["detach"]:
        raise click.UsageError("--watch and --detach exclude each other")
    if options["revision"] and is_file(options["target"]):
        raise click.UsageError("--revision is for stored workflows, not for a FILE")
    if is_file(options["target"]) and not Path(options["target"]).is_file():
        kind = "is a folder" if Path(options["target"]).is_dir() else "no such file"
        raise click.UsageError(f"{options['target']}: {kind}")
    # The schema of a file is read here; a broken file is judged by the server, with places.
    options["schema"] = file_schema(options["target"]) if options["pairs"] else None
    code = with_client(mesh, lambda client: run_one(client, **options), retry_s=RETRY_S_WATCH / 6)
    raise SystemExit(code)


def is_file(target: str) -> bool:
    """Whether FILE|NAME means a file: it has a folder or a document's suffix, or exists."""
    path = Path(target)
    return "/" in target or path.suffix.lower() in SUFFIXES or path.is_file()


async def run_one(
    client: "Client", *, target: str, detach: bool, watch: bool, **options: Any
) -> int:
    """Store, start and follow; return the exit code."""
    name, revision, schema = await resolve(
        client, target, options["revision"], options["schema"], wanted=bool(options["pairs"])
    )
    start: dict[str, Any] = {
        "parameters": read_parameters(options["pairs"], options["input_file"], schema),
        "revision": revision,
        "request_id": options["request_id"],
        "execution_id": options["execution_id"],
        "labels": labels_of(options["labels"]),
    }
    as_json, timeout = options["as_json"], options["timeout"]
    started = await client.start(name, **start)
    if detach:
        if as_json:
            print_json(started.as_json())
        else:
            click.echo(started.execution_id)
        return exits.OK
    try:
        if watch:
            done = await follow(client, started.execution_id, as_json=as_json, timeout=timeout)
        else:
            done = await wait_telling(client, started.execution_id, timeout)
    except asyncio.CancelledError:
        note(f"{started.execution_id} goes on; see: bend executions watch {started.execution_id}")
        raise
    return report(done, as_json=as_json, quiet=watch)


async def resolve(
    client: "Client", target: str, revision: int, schema: dict[str, Any] | None, *, wanted: bool
) -> tuple[str, int, dict[str, Any]]:
    """Return a workflow's name, revision and input schema; a file is stored first."""
    if is_file(target):
        stored = await client.deploy(Path(target))
        if stored.created:
            note(f"stored {stored.name} revision {stored.revision}")
        return stored.name, stored.revision, schema or {}
    if not wanted:
        return target, revision, {}
    stored = await client.get_workflow(target, revision=revision)
    return target, revision, schema_in(stored.document)


def file_schema(target: str) -> dict[str, Any] | None:
    """Return the input schema in a document file; None when it cannot be read or is none."""
    if not is_file(target):
        return None
    try:
        return schema_in(yaml.safe_load(Path(target).read_bytes()))
    except (OSError, yaml.YAMLError):
        return None


@click.command(short_help="Wait until executions have ended.")
@click.argument("execution_ids", nargs=-1, required=True, metavar="EXECUTION…")
@click.option("--timeout", type=Span(), help="Wait at most so long, then exit 8.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document per execution.")
@mesh_options
def wait(
    mesh: dict[str, Any], execution_ids: tuple[str, ...], timeout: float | None, *, as_json: bool
) -> None:
    """Wait until executions have ended; exits like the first that did not complete."""

    async def work(client: "Client") -> int:
        loop = asyncio.get_running_loop()
        end = None if timeout is None else loop.time() + timeout
        code = exits.OK
        for execution_id in execution_ids:
            left = None if end is None else max(0.001, end - loop.time())
            done = await wait_telling(client, execution_id, left)
            code = code or report(done, as_json=as_json)
        return code

    raise SystemExit(with_client(mesh, work, retry_s=RETRY_S_WATCH))
