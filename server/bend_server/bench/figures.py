"""Figures of the mesh at rest: start, idle memory and CPU, waiting executions, restart."""

import asyncio
import statistics
import time

from bend_server.bench import processes, workflows
from bend_server.bench.jobs import Sizes
from bend_server.bench.load import Load, channel
from bend_server.bench.mesh import Mesh
from bend_server.bench.rows import Report

IDLE_S = 10.0


async def at_rest(mesh: Mesh, report: Report, sizes: Sizes) -> None:
    """Measure start to ready (not the first), then memory and CPU with nothing to do."""
    mesh.stop_worker()
    samples = []
    for _ in range(sizes.starts):
        mesh.down()
        samples.append(mesh.up())
    report.row("ready", statistics.median(samples), "s", job="figures", samples=samples)
    pids = mesh.pids()
    await asyncio.sleep(2.0)
    before, begin = processes.cpu_us(pids), time.perf_counter()
    await asyncio.sleep(IDLE_S)
    spent = processes.spent_us(before, processes.cpu_us(pids))
    share = 100 * sum(spent.values()) / 1e6 / (time.perf_counter() - begin)
    sizes_mb = processes.memory_mb(pids)
    report.row("idle_pss", sum(sizes_mb.values()), "MB", job="figures", params=sizes_mb)
    report.row("idle_cpu", share, "%", job="figures", params={"seconds": IDLE_S})


async def waiting(mesh: Mesh, report: Report, sizes: Sizes) -> None:
    """Hold many executions whose component nobody serves; then restart the mesh with them."""
    job = workflows.chain(5)
    mesh.start_worker()
    async with channel(mesh.address(mesh.engine), mesh.home / "certs", "bench") as opened:
        await Load(opened).deploy(job)
    mesh.stop_worker()
    engine = {mesh.engine: mesh.pids()[mesh.engine]}
    async with channel(mesh.address(mesh.engine), mesh.home / "certs", "bench") as opened:
        load = Load(opened)
        before = sum(processes.memory_mb(engine).values())
        await load.start(job, range(sizes.waiting))
        after = sum(processes.memory_mb(engine).values())
    params = {"executions": sizes.waiting}
    held = (after - before) * 1e6 / sizes.waiting
    report.row("waiting_bytes", held, "bytes", job="figures", params=params)
    mesh.down()
    took = mesh.up()
    report.row("restart", took, "s", job="figures", params=params)
