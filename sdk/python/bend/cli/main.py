"""The root of the `bend` command: which commands there are, and how every error ends.

Commands that need the server come through the entry-point group `bend.commands` (each entry a
function that returns a list of click commands; a group with the name of one of ours adds to it).
They are loaded only when one of them, or the help, is asked for.
"""

import importlib
import os
import platform
import sys
from typing import Any

import click

from bend import __version__
from bend.cli import exits
from bend.errors import BendError, InvalidDocument
from bend.platforms import require_platform
from bend.settings import check_environment

ENTRY_GROUP = "bend.commands"
INSTALL = "pip install 'bend[server]'"

OWN = {
    "approvals": ("bend.cli.approvals", "approvals"),
    "bulk": ("bend.cli.bulk", "bulk"),
    "completion": ("bend.cli.main", "completion"),
    "components": ("bend.cli.components", "components"),
    "executions": ("bend.cli.executions", "executions"),
    "pools": ("bend.cli.pools", "pools"),
    "run": ("bend.cli.run", "run"),
    "version": ("bend.cli.main", "version"),
    "wait": ("bend.cli.run", "wait"),
    "workflows": ("bend.cli.workflows", "workflows"),
}
# What the server adds, so that its absence can be explained.
FROM_SERVER = {
    "bench": "Measure this machine.",
    "down": "Stop the local mesh.",
    "graph": "Draw a workflow.",
    "logs": "Show the local mesh's logs.",
    "schema": "Print the JSON Schema of workflow documents.",
    "status": "Show the local mesh's processes.",
    "token": "Make a token.",
    "up": "Start a local mesh.",
    "validate": "Check workflow documents.",
}


class Root(click.Group):
    """The root group; loads each command's module when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List all commands that there are or could be."""
        return sorted({*OWN, *FROM_SERVER, *server_commands()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command; one of the server's that is not installed explains itself."""
        place = OWN.get(cmd_name)
        if place is not None:
            found: click.Command = getattr(importlib.import_module(place[0]), place[1])
            if isinstance(found, click.Group) and not isinstance(found, Extended):
                return Extended(found)
            return found
        command = server_commands().get(cmd_name)
        if command is None and cmd_name in FROM_SERVER:
            return missing(cmd_name, FROM_SERVER[cmd_name])
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Name the nearest command when there is none of that name."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            hint = nearest(args[0], self.list_commands(ctx))
            raise click.UsageError(f"{error.message}{hint}", ctx) from None


class Extended(click.Group):
    """One of our groups with what the server adds to it."""

    def __init__(self, group: click.Group) -> None:
        super().__init__(group.name, help=group.help, commands=dict(group.commands))

    def _added(self) -> dict[str, click.Command]:
        added = server_commands().get(self.name or "")
        return dict(added.commands) if isinstance(added, click.Group) else {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List ours and the server's."""
        return sorted({*self.commands, *self._added()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return ours, else the server's."""
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        if self.name == "components" and cmd_name == "cert" and not server_commands():
            return missing("cert", "Make a component's certificate.")
        return self._added().get(cmd_name)


_loaded: dict[str, click.Command] = {}
_asked = False


def server_commands() -> dict[str, click.Command]:
    """Return the commands that other distributions add; {} when the server is not installed."""
    global _asked  # noqa: PLW0603 - asked once a process
    if not _asked:
        _asked = True
        from importlib.metadata import entry_points

        for entry in entry_points(group=ENTRY_GROUP):
            try:
                commands = entry.load()()
            except ModuleNotFoundError:
                continue
            for command in commands:
                _loaded[command.name] = command
    return _loaded


def missing(name: str, text: str) -> click.Command:
    """Return a command that says what to install."""

    def explain(**_: Any) -> None:
        click.echo(f"error: `bend {name}` needs the server: {INSTALL}", err=True)
        raise SystemExit(exits.USAGE)

    return click.Command(
        name,
        callback=explain,
        help=f"{text} (needs {INSTALL})",
        params=[click.Argument(["_arguments"], nargs=-1, type=click.UNPROCESSED)],
        context_settings={"ignore_unknown_options": True},
    )


def nearest(name: str, known: list[str]) -> str:
    """Return a hint for a misspelt name."""
    import difflib

    near = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {near[0]}?" if near else ""


@click.group(cls=Root, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="bend %(version)s")
def cli() -> None:
    """Bend: durable workflows. Start with `bend up`, then `bend run FILE --watch`."""
    require_platform()
    check_environment(os.environ)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="A JSON document.")
def version(*, as_json: bool) -> None:
    """Print the version."""
    from bend.cli.console import print_json

    if as_json:
        print_json({"version": __version__, "python": platform.python_version()})
    else:
        click.echo(f"bend {__version__} (Python {platform.python_version()})")


@click.command(short_help="Print a shell's completion script.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a shell's completion script: eval "$(bend completion bash)"."""
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"no completion for {shell}")
    click.echo(found(cli, {}, "bend", "_BEND_COMPLETE").source())


def place_of(source: str, line: object, column: object) -> str:
    """Return `file:line:column: `, without what is unknown."""
    parts = [source] if source else []
    if str(line) not in ("", "0"):
        parts += [str(line), str(column)]
    return f"{':'.join(parts)}: " if parts else ""


def fail(error: BendError) -> int:
    """Print an error with its place and reason; return the exit code."""
    if isinstance(error, InvalidDocument):
        for finding in error.findings:
            path = f" ({finding.path})" if finding.path else ""
            place = place_of(error.source, finding.line, finding.column)
            click.echo(f"{place}{finding.reason}: {finding.message}{path}", err=True)
    elif error.source and error.metadata.get("line"):
        line, column = error.metadata["line"], error.metadata.get("column", "0")
        text = error.message.removeprefix(f"{line}:{column}: ")
        place = place_of(error.source, line, column)
        click.echo(f"{place}{error.reason}: {text}", err=True)
    else:
        click.echo(f"error: {error.reason}: {error}", err=True)
    return exits.code_of(error)


def fail_unforeseen(error: Exception) -> int:
    """Print an error that no command foresaw; return the exit code."""
    argument = no_text(sys.argv[1:])
    if argument and "surrogates not allowed" in str(error):
        # Only names of files may be any bytes, and only on this machine.
        click.echo(f"error: the argument {argument} is not UTF-8", err=True)
        return exits.USAGE
    click.echo(
        f"error: INTERNAL: {type(error).__name__}: {error} (BEND_LOG_LEVEL=debug shows where)",
        err=True,
    )
    return exits.FAILED


def no_text(arguments: list[str]) -> str:
    """Return the first argument that is not UTF-8, as a person may read it; empty when all are."""
    for argument in arguments:
        shown = os.fsencode(argument).decode("utf-8", "backslashreplace")
        if shown != argument:
            return shown
    return ""


def main() -> None:
    """Run the command line and exit with its code; never shows a traceback."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    code: object = exits.OK
    try:
        # click itself does not know NO_COLOR; None leaves it to whether a terminal reads.
        color = False if os.environ.get("NO_COLOR") else None
        code = cli.main(prog_name="bend", standalone_mode=False, color=color)
    except click.ClickException as error:
        error.show()
        code = exits.USAGE
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        code = exits.INTERRUPTED
    except BendError as error:
        code = fail(error)
    except ModuleNotFoundError as error:
        click.echo(f"error: {error.name} is not installed: {INSTALL}", err=True)
        code = exits.USAGE
    except BrokenPipeError:
        # Who read our output has gone, as `head` does: nobody is there to be told.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = exits.OK
    except Exception as error:
        if os.environ.get("BEND_LOG_LEVEL", "").lower() == "debug":
            raise
        code = fail_unforeseen(error)
    sys.exit(code if isinstance(code, int) else exits.OK)
