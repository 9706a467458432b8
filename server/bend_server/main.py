"""The command of a server process: `python -m bend_server.main ROLE`.

Roles: `server` (engine and registry together), `executor`; with PostgreSQL also `engine` and
`registry` alone. SIGTERM stops a role in order. Exit code 2: the configuration cannot be used, and
starting again is useless.
"""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable

import uvloop

# structlog imports rich when it finds it, to colour tracebacks on terminals: a sixth of a second
# at every start of a role, which writes JSON.
_rich = sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
import structlog  # noqa: E402 - after the line above

if _rich is None:
    del sys.modules["rich"]

from bend.errors import ConfigurationError  # noqa: E402
from bend_server.config import Settings, load  # noqa: E402
from bend_server.roles.process import Place, Process  # noqa: E402
from bend_server.roles.serving import StoppedEarly  # noqa: E402
from bend_server.telemetry import logs  # noqa: E402

CONFIGURATION_EXIT = 2
FAULT_EXIT = 1
PARENT_S = 1.0
ROLES = ("engine", "executor", "registry", "server")

_log = structlog.get_logger(__name__)


def _role(name: str) -> Callable[[Process, asyncio.Event], Awaitable[None]]:
    """Import what a role needs, and nothing of the others."""
    if name == "executor":
        from bend_server.roles.executor import run
    else:
        from bend_server.roles.server import run
    return run


async def _run(process: Process) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    watch = None
    if sys.platform != "linux":
        # Linux ends us with our parent by itself.
        watch = asyncio.create_task(_follow_parent(os.getppid()))
    try:
        await _role(process.role)(process, stop)
    except* StoppedEarly:
        _log.info("role_stops", role=process.role)
    finally:
        if watch is not None:
            watch.cancel()


async def _follow_parent(parent: int) -> None:
    while os.getppid() == parent:  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(PARENT_S)
    os._exit(FAULT_EXIT)


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bend_server.main")
    parser.add_argument("role", choices=ROLES)
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
    return parser.parse_args(argv)


def _place(flags: argparse.Namespace, settings: Settings) -> Place:
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
    return Place(host, int(port), nats, flags.registry, flags.registry_role, flags.replica)


def main(argv: list[str] | None = None) -> int:
    """Run a role until SIGTERM; return the exit code."""
    flags = _arguments(sys.argv[1:] if argv is None else argv)
    try:
        settings = load()
        place = _place(flags, settings)
    except ConfigurationError as error:
        sys.stderr.write(f"error: {error}\n")
        return CONFIGURATION_EXIT
    logs.configure(flags.role, settings.log_level)
    _log.info("settings", **settings.masked())
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(Process(flags.role, settings, place)))
    except BaseExceptionGroup as group:
        return _ended(group.exceptions[0])
    except Exception as error:  # noqa: BLE001 - the last stop of every fault
        return _ended(error)
    return 0


def _ended(error: BaseException) -> int:
    """Log why the process ends; return the exit code."""
    from bend_server.storage.faults import DatabaseTaken, OpenError

    if isinstance(error, ConfigurationError) or (
        isinstance(error, OpenError) and not isinstance(error, DatabaseTaken)
    ):
        _log.error("configuration_unusable", error=str(error))
        return CONFIGURATION_EXIT
    _log.error("role_failed", error=str(error), exc_info=error)
    return FAULT_EXIT


if __name__ == "__main__":
    sys.exit(main())
