"""Commands of `bend` that need the server; the SDK's command line finds them by entry point."""

import click


def commands() -> list[click.Command]:
    """Return the commands; each module is imported when the command line starts."""
    from bend_server.cli.validate import validate

    return [validate]
