"""The flags of a role: where its process listens, and whom it talks to."""

import argparse
from collections.abc import Sequence
from typing import NamedTuple

from bend.errors import ConfigurationError
from bend_server.config import Settings


class Place(NamedTuple):
    """Where this process listens, whom it talks to, and whose place it takes."""

    host: str
    port: int
    nats: str
    registry: str
    registry_role: str
    replica: str
    sole: bool


def arguments(argv: Sequence[str], roles: Sequence[str]) -> argparse.Namespace:
    """Read a role's command line."""
    parser = argparse.ArgumentParser(prog="bend_server.main")
    parser.add_argument("role", choices=roles)
    parser.add_argument("--listen", required=True, help="address:port")
    parser.add_argument("--nats", default="", help="tls://host:port; BEND_NATS_URL otherwise")
    parser.add_argument("--registry", default="", help="host:port of the registry (executor)")
    parser.add_argument(
        "--registry-role", default="registry", help="identity of who serves the registry"
    )
    parser.add_argument(
        "--replica",
        default="",
        help="a name under which at most one engine runs; it takes over at once what an earlier "
        "one left (default: when its lease has run out)",
    )
    parser.add_argument(
        "--sole",
        action="store_true",
        help="at most one executor runs on this NATS; it takes over at once what an earlier one "
        "left (default: when the queue's wait for it is over)",
    )
    return parser.parse_args(argv)


def place_of(flags: argparse.Namespace, settings: Settings) -> Place:
    """Return what the flags and settings say. Raises ConfigurationError."""
    host, _, port = str(flags.listen).rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigurationError(f"--listen {flags.listen!r} must be address:port")
    nats = flags.nats or settings.nats_url
    if not nats:
        raise ConfigurationError("BEND_NATS_URL is not set")
    if flags.role == "executor" and not flags.registry:
        raise ConfigurationError("an executor needs --registry")
    if flags.role in {"engine", "registry"} and settings.sqlite:
        raise ConfigurationError(
            "SQLite has one owner: run the role `server`, or use PostgreSQL (BEND_DATABASE_URL)"
        )
    return Place(
        host, int(port), nats, flags.registry, flags.registry_role, flags.replica, flags.sole
    )
