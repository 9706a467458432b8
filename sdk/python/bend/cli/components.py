"""`bend components`: list, get, instances."""

from typing import Any

import click
import orjson

from bend.cli.console import age, print_json, print_table
from bend.cli.mesh_options import mesh_options, with_client


@click.group()
def components() -> None:
    """Look at components and who serves them."""


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
    click.echo(f"{found.name} {found.version}")
    click.echo(f"  versions   {found.version_count}")
    click.echo(f"  instances  {found.instance_count}")
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
    found = with_client(mesh, lambda client: client.list_instances(name))
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
