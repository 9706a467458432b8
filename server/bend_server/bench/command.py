"""`bend bench`: run jobs and print rows."""

import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from bend_server.bench.jobs import Sizes
    from bend_server.bench.mesh import Mesh
    from bend_server.bench.rows import Report

REMOTE = ("j1", "j2", "j3", "j4")
ALL = (*REMOTE, "shapes", "http", "model", "figures")


async def measure(mesh: "Mesh", report: "Report", wanted: list[str], sizes: "Sizes") -> None:
    """Run the wanted jobs one after another; figures come last, they restart the mesh."""
    # Every `bend` command loads this module; what only a benchmark needs waits until it runs.
    from bend_server.bench import figures
    from bend_server.bench.jobs import JOBS

    for name, job in JOBS.items():
        if name in wanted:
            await job(mesh, report, sizes)
    if "shapes" in wanted:
        from bend_server.bench import shapes

        await shapes.measure(mesh, report, quick=sizes.quick_look)
    if "http" in wanted:
        from bend_server.bench import components_http

        await components_http.measure(
            mesh, report, quick=sizes.quick_look, in_flight=sizes.in_flight
        )
    if "model" in wanted:
        from bend_server.bench import components_model

        await components_model.measure(mesh, report, sizes)
    if "figures" in wanted:
        await figures.at_rest(mesh, report, sizes)
        await figures.waiting(mesh, report, sizes)


@click.command("bench", short_help="Measure a fresh mesh of the shipped binaries.")
@click.option("--jobs", help=f"Comma-separated: {','.join(ALL)}; default: all.")
@click.option("--in-flight", default=256, type=click.IntRange(1, 10_000), show_default=True)
@click.option("--database", help="URL of a PostgreSQL database; default: SQLite.")
@click.option("--json", "as_json", is_flag=True, help="JSON lines.")
@click.option("--quick", is_flag=True, help="Small sizes, about a minute.")
@click.option("--url", help="Gateway of a mesh that runs already, certificates in BEND_HOME.")
def bench(
    jobs: str | None,
    in_flight: int,
    database: str | None,
    as_json: bool,
    quick: bool,
    url: str | None,
) -> None:
    """Measure a fresh mesh of the shipped binaries; every output is checked.

    With --url it is a mesh that runs already, seen through its gateway: j1 to j4 only, and
    without what only its own machine can tell.
    """
    import asyncio

    from bend_server.bench.jobs import Sizes
    from bend_server.bench.lock import heavy
    from bend_server.bench.mesh import MeshError, fresh_mesh, running_mesh
    from bend_server.bench.rows import Report
    from bend_server.config import load

    possible = REMOTE if url else ALL
    wanted = [name.strip() for name in (jobs or ",".join(possible)).split(",") if name.strip()]
    unknown = [name for name in wanted if name not in possible]
    if unknown:
        raise click.UsageError(f"unknown job {unknown[0]!r}; known: {', '.join(possible)}")
    if url and database:
        raise click.UsageError("--url and --database exclude each other")
    sizes = Sizes.quick(in_flight) if quick else Sizes(in_flight=in_flight)
    kind = "unknown" if url else "postgresql" if database else "sqlite"
    report = Report(as_json=as_json, database=kind)
    try:
        chosen = running_mesh(load().home, url) if url else fresh_mesh(database)
        with heavy(), chosen as mesh:
            asyncio.run(measure(mesh, report, wanted, sizes))
    except MeshError as error:
        raise click.ClickException(str(error)) from error
    if report.wrong:
        sys.stderr.write(f"{report.wrong} outputs were wrong\n")
        sys.exit(1)
