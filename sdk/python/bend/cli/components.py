"""`bend components`: what is registered, who serves it, and which versions get tasks."""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from bend.cli import exits
from bend.cli.component_project import write_project
from bend.cli.console import age, print_json, print_table
from bend.cli.mesh_options import mesh_options, with_client

if TYPE_CHECKING:
    from bend.client import Client
    from bend.stored import InstanceInfo


@click.group()
def components() -> None:
    """Components, their versions, and who serves them."""


@components.command("list")
@click.argument("query", default="")
@click.option("--json", "as_json", is_flag=True, help="A JSON document.")
@mesh_options
def list_(mesh: dict[str, Any], query: str, *, as_json: bool) -> None:
    """List components by name; QUERY searches name and description."""
    found = with_client(mesh, lambda client: client.list_components(query=query))
    if as_json:
        print_json({"components": [one.as_json() for one in found]})
        return
    print_table(
        ("component", "version", "instances", "description"),
        (
            (
                one.name,
                one.version,
                str(one.instance_count),
                one.description.strip().partition("\n")[0],
            )
            for one in found
        ),
        empty="no components",
    )


@components.command()
@click.argument("name")
@click.option("--version", default="", help="Default: the newest.")
@click.option("--json", "as_json", is_flag=True, help="A JSON document.")
@mesh_options
def get(mesh: dict[str, Any], name: str, version: str, *, as_json: bool) -> None:
    """Show a component with its contract."""
    found = with_client(mesh, lambda client: client.get_component(name, version=version))
    if as_json:
        print_json(found.as_json())
        return
    click.echo(f"{found.name} {found.version}" + (" (deprecated)" if found.deprecated else ""))
    click.echo(f"  versions   {found.version_count}")
    click.echo(f"  instances  {found.instance_count}")
    if found.weights:
        click.echo(f"  weights    {weights_text(found.weights)}")
    if found.long_running:
        click.echo("  long-running tasks")
    if found.labels:
        click.echo(f"  labels     {', '.join(f'{k}={v}' for k, v in found.labels.items())}")
    if found.description:
        click.echo(f"\n{found.description.strip()}")
    for title, schema in (
        ("input", found.input_schema_json),
        ("output", found.output_schema_json),
    ):
        if schema:
            click.echo(f"\n{title}:")
            print_json(orjson.loads(schema), pretty=True)


@components.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="A JSON document.")
@mesh_options
def instances(mesh: dict[str, Any], name: str, *, as_json: bool) -> None:
    """List the live instances of a component."""

    async def work(client: "Client") -> "list[InstanceInfo]":
        found = await client.list_instances(name)
        if not found:
            await client.get_component(name)  # says when there is no such component
        return found

    found = with_client(mesh, work)
    if as_json:
        print_json({"instances": [one.as_json() for one in found]})
        return
    print_table(
        ("instance", "version", "executor", "load", "labels", "connected"),
        (
            (
                one.instance_id + (" (draining)" if one.draining else ""),
                one.version,
                one.executor,
                f"{one.in_flight}/{one.credit}",
                ",".join(f"{key}={value}" for key, value in one.labels.items()),
                f"{age(one.connected_at)} ago",
            )
            for one in found
        ),
        empty=f"no live instance of {name}",
    )


@components.command()
@click.argument("name")
@click.argument("version")
@click.option("--restore", is_flag=True, help="Take the deprecation back.")
@mesh_options
def deprecate(mesh: dict[str, Any], name: str, version: str, *, restore: bool) -> None:
    """Give a version no new tasks, except where workflows pin it or nothing else fits."""
    found = with_client(
        mesh, lambda client: client.deprecate_component(name, version, restore=restore)
    )
    click.echo(f"{name} {found.version} is {'deprecated' if found.deprecated else 'current'}")


@components.command()
@click.argument("name")
@click.option("--version", default="", help="The newer version. Default: the newest.")
@click.option("--base", default="", help="The older version. Default: the nearest before.")
@click.option("--component", "place", default="", help="FILE.py:FUNCTION or MODULE:FUNCTION.")
@click.option("--json", "as_json", is_flag=True, help="A JSON document.")
@mesh_options
def check(
    mesh: dict[str, Any], name: str, version: str, base: str, place: str, *, as_json: bool
) -> int:
    """Compare a contract with an older version; exit with 1 when it breaks something.

    The newer contract is a registered version, or that of a function (--component).
    """
    function = function_at(place) if place else None
    found = with_client(
        mesh,
        lambda client: client.check_compatibility(
            name, version=version, base_version=base, component=function
        ),
    )
    if as_json:
        print_json(found.as_json())
    elif not found.base_version:
        click.echo(f"{name} {found.version}: nothing older to compare with")
    else:
        print_table(
            ("", "change", "path", ""),
            (
                ("breaks" if one.breaking else "", one.kind, one.path, one.message)
                for one in found.changes
            ),
            empty="no changes",
        )
        verdict = "is compatible with" if found.compatible else "breaks"
        click.echo(f"{name} {found.version} {verdict} {found.base_version}")
    return exits.OK if found.compatible else exits.FAILED


@components.command()
@click.argument("name")
@click.argument("shares", nargs=-1, metavar="[VERSION=WEIGHT]...")
@click.option("--clear", is_flag=True, help="The newest version takes all again.")
@mesh_options
def weights(mesh: dict[str, Any], name: str, shares: tuple[str, ...], *, clear: bool) -> None:
    """Share new tasks out over versions: bend components weights NAME 1.4.0=95 1.5.0=5.

    Without weights it shows those that are set.
    """
    if shares and clear:
        raise click.UsageError("--clear goes without weights")
    wanted = dict(map(share_of, shares))
    if len(wanted) < len(shares):
        raise click.UsageError("a version is there twice")
    if wanted or clear:
        stored = with_client(mesh, lambda client: client.set_component_weights(name, wanted))
    else:
        stored = with_client(mesh, lambda client: client.get_component(name)).weights
    click.echo(weights_text(stored) or "the newest version takes all")


@components.command()
@click.argument("instance")
@click.option("--restore", is_flag=True, help="Give it tasks again.")
@mesh_options
def drain(mesh: dict[str, Any], instance: str, *, restore: bool) -> None:
    """Give an instance no new tasks; what it has goes on to its end."""
    found = with_client(mesh, lambda client: client.drain_instance(instance, restore=restore))
    for one in found:
        state = "drains" if one.draining else "takes tasks"
        click.echo(f"{one.component} {one.version} on {instance} {state}, holds {one.in_flight}")


@components.command()
@click.argument("name")
@click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Default: ./NAME, dashes for dots.",
)
def init(name: str, folder: Path | None) -> None:
    """Write a new component's project: code, test, workflow, image."""
    target = folder or Path(name.replace(".", "-"))
    for path in write_project(name, target):
        click.echo(path)
    click.echo(f"next: cd {target} && pip install -e '.[dev]' && pytest", err=True)


def weights_text(stored: dict[str, int]) -> str:
    """Return weights with their parts, as people read them."""
    total = sum(stored.values()) or 1
    return ", ".join(
        f"{version}={weight} ({weight / total:.1%})" for version, weight in stored.items()
    )


def share_of(text: str) -> tuple[str, int]:
    """Read VERSION=WEIGHT."""
    version, _, weight = text.partition("=")
    if not version or not weight.isdecimal():
        raise click.UsageError(f"{text!r} is not VERSION=WEIGHT")
    return version, int(weight)


def function_at(place: str) -> Callable[..., Any]:
    """Load the function that FILE.py:FUNCTION or MODULE:FUNCTION names."""
    source, _, name = place.rpartition(":")
    if not source or not name:
        raise click.UsageError(f"{place!r} is not FILE.py:FUNCTION or MODULE:FUNCTION")
    try:
        if source.endswith(".py"):
            spec = importlib.util.spec_from_file_location(Path(source).stem, source)
            if spec is None or spec.loader is None:
                raise click.UsageError(f"{source} cannot be loaded")
            module = importlib.util.module_from_spec(spec)
            # Dataclasses look their module up by its name.
            sys.modules[spec.name] = module
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(source)
        found: Callable[..., Any] = getattr(module, name)
    except (OSError, ImportError, AttributeError) as error:
        raise click.UsageError(f"{place}: {error}") from error
    return found
