"""The job `shapes`: what a task costs in workflows of other sizes and shapes; what storing costs.

The cost of a task should not grow with the size of its workflow.
"""

import statistics
import time

from bend_server.bench import workflows
from bend_server.bench.load import Load, channel
from bend_server.bench.mesh import Mesh
from bend_server.bench.rows import Report

SIZES = (100, 1000, 10_000)
QUICK_SIZES = (100, 1000)
DEEP = 5000
LARGE = 20_000
DENSE = (100, 6)
ROUNDS = 3


async def measure(mesh: Mesh, report: Report, *, quick: bool) -> None:
    """Run the job; every output of what runs is checked."""
    async with channel(mesh.address(mesh.engine), mesh.home / "certs", "bench") as opened:
        load = Load(opened)
        for size in QUICK_SIZES if quick else SIZES:
            await _each(load, report, f"tasks_{size}_per_task", workflows.fan_out(size))
            await _each(load, report, f"items_{size}_per_item", workflows.items(size))
        deep = workflows.chain(DEEP // 10 if quick else DEEP)
        await _each(load, report, f"chain_{deep.steps}_per_step", deep, rounds=1)
        for name, job in (
            ("store_20000_tasks", workflows.fan_out(LARGE - 1)),
            ("store_20000_conditions", workflows.conditional(LARGE)),
            ("store_50000_edges", workflows.layers(*DENSE)),
        ):
            begin = time.perf_counter()
            await load.deploy(job)
            report.row(
                name,
                time.perf_counter() - begin,
                "s",
                job="shapes",
                params={"tasks": job.steps},
            )


async def _each(
    load: Load, report: Report, name: str, job: workflows.Job, rounds: int = ROUNDS
) -> None:
    """Report milliseconds a task of one execution: the median of some rounds after a first one."""
    await load.deploy(job)
    await load.run(job, 0)
    results = [await load.run(job, value) for value in range(rounds)]
    samples = [took / job.steps for took, _ in results]
    report.row(
        name,
        statistics.median(samples),
        "ms",
        job="shapes",
        params={"tasks": job.steps},
        samples=samples,
        wrong=sum(not good for _, good in results),
    )
