"""Options that every command with a server behind it has, and how they become a client."""

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import click

from bend.settings import load_settings

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

# A command answers soon when nobody is there; a watch is more patient.
RETRY_S = 3.0
RETRY_S_WATCH = 60.0

OPTIONS = (
    click.option("--url", help="Gateway, https://host:port.  [env: BEND_URL]"),
    click.option("--home", help="Data folder of a local mesh.  [env: BEND_HOME]"),
    click.option("--ca-file", help="Authority of the gateway's certificate.  [env: BEND_CA_FILE]"),
    click.option("--cert-file", help="Client certificate.  [env: BEND_CERT_FILE]"),
    click.option("--key-file", help="Its key.  [env: BEND_KEY_FILE]"),
    click.option("--token", help="Bearer token.  [env: BEND_TOKEN]"),
)
NAMES = ("url", "home", "ca_file", "cert_file", "key_file", "token")


def mesh_options(command: F) -> F:
    """Add the options; the function gets them as one `mesh` mapping."""

    @functools.wraps(command)
    def wrapped(**options: Any) -> Any:
        mesh = {name: options.pop(name) for name in NAMES}
        return command(mesh=mesh, **options)

    decorated: Any = wrapped
    for option in reversed(OPTIONS):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]


def with_client(
    mesh: dict[str, Any],
    work: Callable[[Any], Coroutine[Any, Any, T]],
    *,
    retry_s: float = RETRY_S,
) -> T:
    """Run one coroutine function with a client; the connection is closed afterwards."""
    load_settings(**mesh)
    from bend.client import Client

    async def body() -> T:
        async with Client(**mesh, retry_timeout=retry_s) as client:
            return await work(client)

    return asyncio.run(body())


def labels_of(given: tuple[str, ...]) -> dict[str, str]:
    """Read `key=value` options. Raises UsageError."""
    labels = {}
    for one in given:
        key, equals, value = one.partition("=")
        if not equals or not key:
            raise click.UsageError(f"--label {one!r} must look like key=value")
        labels[key] = value
    return labels
