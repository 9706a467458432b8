"""Commands of `bend` that need the server; the SDK's command line finds them by entry point."""

import click


def commands() -> list[click.Command]:
    """Return the commands. Their modules import what is heavy when a command runs."""
    from bend_server.bench.command import bench
    from bend_server.cli.certificates import components, token
    from bend_server.cli.graph import graph
    from bend_server.cli.mesh import down, logs, status, up
    from bend_server.cli.schema import schema
    from bend_server.cli.validate import validate

    return [up, down, status, logs, token, components, validate, graph, schema, bench]
