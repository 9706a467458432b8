"""`bend up`, `down`, `status`, `logs`: the mesh of this machine."""

import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bend.cli.durations import Span

if TYPE_CHECKING:
    from bend_server.local.home import Home

FAILED = 1
USAGE = 2
NOT_FOUND = 4
STATES = {"running": "green", "failed": "red", "stopped": "yellow"}
TAIL_LINES = 50
PROCESSES = (
    *("nats", "envoy", "server", "engine", "registry", "executor", "components"),
    "supervisor",
)

home_option = click.option(
    "--home", type=click.Path(file_okay=False, path_type=Path), help="Data folder [./.bend]."
)


@click.command(short_help="Start a local mesh, or show the one that runs.")
@click.option("--detach", is_flag=True, help="Return when the mesh is ready; it goes on.")
@home_option
@click.option("--https-port", type=click.IntRange(1, 65535), help="HTTPS port [8443].")
@click.option("--http-port", type=click.IntRange(0, 65535), help="HTTP on loopback [8080]; 0: no.")
def up(*, detach: bool, home: Path | None, https_port: int | None, http_port: int | None) -> None:
    """Start a local mesh: NATS, gateway, server, executor, built-in components.

    The last line is `ready HTTPS-URL HTTP-URL`. On a home whose mesh runs already it shows the
    status and ends. Without --detach it runs until Ctrl-C.
    """
    from bend_server.config import load
    from bend_server.local import start
    from bend_server.local.home import Home
    from bend_server.local.supervisor import StartFailed

    settings = load(home=home, https_port=https_port, http_port=http_port)
    folder = Home(settings.home)
    if folder.held():
        _show(folder)
        return
    try:
        if detach:
            ports = {"--https-port": https_port, "--http-port": http_port}
            flags = [f"{name}={port}" for name, port in ports.items() if port is not None]
            start.detach(folder, start.up_command(settings.home, flags), click.echo)
        else:
            start.supervise(settings, _say)
    except start.AlreadyRuns:
        _show(folder)
    except start.Unusable as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(USAGE)
    except StartFailed as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(FAILED)


@click.command()
@home_option
@click.option("--timeout", type=Span(), default=30.0, help="How long the mesh may take [30s].")
@click.option("--purge", is_flag=True, help="Remove all data of the mesh too.")
def down(*, home: Path | None, timeout: float, purge: bool) -> None:
    """Stop the local mesh in order; a stopped one is no error."""
    from bend_server.local.stop import StopFailed, stop

    folder = _home(home)
    try:
        stopped = stop(folder, timeout)
    except StopFailed as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(FAILED)
    click.echo("stopped" if stopped else f"no mesh runs on {folder.root}")
    if purge:
        purged = folder.purge()
        click.echo(
            ("removed the data in" if purged else "no data of a mesh in") + f" {folder.root}"
        )


@click.command()
@home_option
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def status(*, home: Path | None, as_json: bool) -> None:
    """Show the local mesh and its processes. Exit code 1 when it is not ready."""
    ready = _show(_home(home), as_json=as_json)
    sys.exit(0 if ready else FAILED)


@click.command()
@click.argument("process", required=False, type=click.Choice(PROCESSES))
@home_option
@click.option("-f", "--follow", is_flag=True, help="Go on as lines come.")
@click.option("-n", "--lines", type=click.IntRange(0, 10_000), default=TAIL_LINES, help="[50]")
def logs(*, process: str | None, home: Path | None, follow: bool, lines: int) -> None:
    """Show the logs of a process, or of all."""
    from bend_server.local import log_files

    folder = _home(home)
    files = {name: folder.log(name) for name in ([process] if process else PROCESSES)}
    if not any(path.exists() for path in files.values()):
        click.echo(f"no logs in {folder.logs}", err=True)
        sys.exit(NOT_FOUND)
    width = max(map(len, files))
    for name, path in files.items():
        for line in log_files.tail(path, lines):
            click.echo(line if process else f"{name:<{width}} {line}")
    if follow:
        with contextlib.suppress(KeyboardInterrupt):
            for name, line in log_files.follow(files):
                click.echo(line if process else f"{name:<{width}} {line}")


def _home(flag: Path | None) -> "Home":
    from bend_server.config import load
    from bend_server.local.home import Home

    return Home(load(home=flag).home)


def _say(line: str) -> None:
    """Show one line now, also when the output is a file; the reader may have gone."""
    with contextlib.suppress(OSError):
        click.echo(line)
        sys.stdout.flush()


def _show(home: "Home", *, as_json: bool = False) -> bool:
    from bend_server.local import status as account

    found = account.read(home)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return bool(found["ready"])
    for entry in found["processes"]:
        state = click.style(f"{entry['state']:<10}", fg=STATES.get(entry["state"], "yellow"))
        megabytes = f"{entry['rss_bytes'] / 1e6:.0f} MB" if entry["rss_bytes"] else ""
        click.echo(
            f"{entry['name']:<11} {state} {entry['pid'] or '':>8} {entry['restarts']:>3} restarts "
            f"{megabytes:>7} {entry['address']}".rstrip()
        )
    if found["ready"]:
        click.echo(f"ready {found['urls']['https']} {found['urls']['http']}".rstrip())
    else:
        click.echo(f"not ready ({home.root})")
    return bool(found["ready"])
