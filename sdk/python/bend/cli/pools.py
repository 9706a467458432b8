"""`bend pools`: list, get, scale, put, delete pools of component instances."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bend.cli.console import age, note, print_json, print_table
from bend.cli.mesh_options import RETRY_S_WATCH, mesh_options, with_client

if TYPE_CHECKING:
    from bend.client import Client
    from bend.instance_pools import PoolInfo

WATCH_S = 1.0
MIB = 1024 * 1024
AS_JSON = click.option("--json", "as_json", is_flag=True, help="A JSON document.")


@click.group()
def pools() -> None:
    """Look at pools of component instances, and scale them."""


@pools.command("list")
@AS_JSON
@click.option("--watch", is_flag=True, help="Again every second; a line for each change.")
@mesh_options
def list_(mesh: dict[str, Any], *, as_json: bool, watch: bool) -> None:
    """List pools with their demand and instances."""
    if watch:
        with_client(mesh, lambda client: _follow(client, as_json=as_json), retry_s=RETRY_S_WATCH)
        return
    found = with_client(mesh, lambda client: client.list_pools())
    if as_json:
        print_json({"pools": [one.as_json() for one in found]})
        return
    print_table(
        ("pool", "component", "driver", "status", "instances", "tasks", "cpu", "memory", "reason"),
        (_row(one) for one in found),
        empty="no pools",
    )


def _row(one: "PoolInfo") -> tuple[str, ...]:
    return (
        one.name,
        one.component,
        one.driver,
        one.state,
        _count(one),
        f"{one.waiting} waiting, {one.open} open",
        f"{sum(instance.cpu for instance in one.instances):.2f}",
        f"{sum(instance.memory_bytes for instance in one.instances) // MIB} MiB",
        one.reason,
    )


def _count(one: "PoolInfo") -> str:
    held = " held" if one.held is not None else ""
    return f"{one.ready}/{one.wanted}{held} ({one.least}-{one.most})"


async def _follow(client: "Client", *, as_json: bool) -> None:
    """Print a pool whenever its numbers change, until interrupted."""
    last: dict[str, tuple[str, ...]] = {}
    while True:
        for one in await client.list_pools():
            shown = (one.state, _count(one), str(one.waiting), str(one.open))
            if last.get(one.name) == shown:
                continue
            last[one.name] = shown
            if as_json:
                print_json(one.as_json(), pretty=False)
            else:
                state, count, waiting, opened = shown
                click.echo(f"{one.name}  {state}  {count}  {waiting} waiting, {opened} open")
        await asyncio.sleep(WATCH_S)


@pools.command()
@click.argument("name")
@AS_JSON
@mesh_options
def get(mesh: dict[str, Any], name: str, *, as_json: bool) -> None:
    """Show a pool, its instances and what happened to it."""
    found = with_client(mesh, lambda client: client.get_pool(name))
    if as_json:
        print_json(found.as_json())
        return
    stats = found.document["stats"]
    click.echo(f"{found.name}  {found.state}  {_count(found)}")
    click.echo(f"  component  {found.component}, by {found.driver}")
    click.echo(f"  tasks      {found.waiting} waiting, {found.open} open")
    counts = (f"{stats.get(key, 0)} {key}" for key in ("starts", "failures", "stops", "kills"))
    click.echo(f"  so far     {', '.join(counts)}")
    if found.reason:
        click.echo(f"  reason     {found.reason}")
    print_table(
        ("instance", "status", "place", "cpu", "memory", "load", "age"),
        (
            (
                one.name,
                one.state,
                one.place,
                f"{one.cpu:.2f}",
                f"{one.memory_bytes // MIB} MiB",
                f"{one.in_flight}/{one.credit}",
                age(one.started_at),
            )
            for one in found.instances
        ),
        empty="no instances",
    )
    for end in stats.get("ends", ()):
        click.echo(f"  ended: {end}")


@pools.command()
@click.argument("name")
@click.argument("instances", metavar="NUMBER|auto")
@AS_JSON
@mesh_options
def scale(mesh: dict[str, Any], name: str, instances: str, *, as_json: bool) -> None:
    """Hold a pool at NUMBER instances; `auto`: it follows the demand again."""
    if instances != "auto" and not instances.isdecimal():
        raise click.UsageError(f"{instances!r} is neither a number nor `auto`")
    number = None if instances == "auto" else int(instances)
    found = with_client(mesh, lambda client: client.scale_pool(name, number))
    if as_json:
        print_json(found.as_json())
    else:
        note(f"{name} {'follows the demand' if number is None else f'is held at {number}'}")


@pools.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--name", default="", help="When the document has none.")
@AS_JSON
@mesh_options
def put(mesh: dict[str, Any], file: Path, name: str, *, as_json: bool) -> None:
    """Store the pool that FILE describes (YAML or JSON)."""
    changed = with_client(mesh, lambda client: client.put_pool(file, name=name))
    if as_json:
        print_json({"changed": changed})
    else:
        note("stored" if changed else "unchanged")


@pools.command()
@click.argument("name")
@AS_JSON
@mesh_options
def delete(mesh: dict[str, Any], name: str, *, as_json: bool) -> None:
    """Delete a pool; its instances finish what they hold."""
    with_client(mesh, lambda client: client.delete_pool(name))
    if as_json:
        print_json({"deleted": name})
    else:
        note(f"deleted {name}")
