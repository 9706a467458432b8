"""`bend token` and `bend components cert`: identities of the local mesh."""

import json
import sys
from pathlib import Path
from typing import NoReturn

import click

from bend_server.cli.mesh import USAGE, home_option


@click.command()
@home_option
def token(*, home: Path | None) -> None:
    """Print the bearer token of the local mesh; made at first use."""
    from bend_server import certificates
    from bend_server.config import load
    from bend_server.local.home import Home, HomeFault

    folder = Home(load(home=home).home)
    try:
        folder.prepare()
        click.echo(certificates.token(folder.certs))
    except (HomeFault, OSError) as error:
        _fail(str(error))


@click.group()
def components() -> None:
    """Components and their certificates."""


@components.command()
@click.argument("name")
@home_option
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def cert(*, name: str, home: Path | None, as_json: bool) -> None:
    """Write a component service's certificate and print the files.

    The service may serve components with it. It is valid for 30 days; a running mesh renews it.
    """
    from bend_server.certificates import Authority, CertificateFault
    from bend_server.config import load
    from bend_server.local.home import Home, HomeFault

    folder = Home(load(home=home).home)
    try:
        folder.prepare()
        authority = Authority(folder.certs)
        leaf = authority.leaf(f"/component/{name}")
    except (HomeFault, CertificateFault, ValueError, OSError) as error:
        _fail(str(error))
    found = {
        "BEND_CA_FILE": str(authority.ca_file),
        "BEND_CERT_FILE": str(leaf.certificate),
        "BEND_KEY_FILE": str(leaf.key),
    }
    if as_json:
        click.echo(json.dumps(found))
    else:
        for variable, path in found.items():
            click.echo(f"{variable}={path}")


def _fail(text: str) -> NoReturn:
    click.echo(f"error: {text}", err=True)
    sys.exit(USAGE)
