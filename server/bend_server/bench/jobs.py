"""The jobs J1 to J4, fixed so that figures can be compared over the years."""

import statistics
from dataclasses import dataclass

from bend_server.bench import processes, workflows
from bend_server.bench.load import Load, channel, rest_runs
from bend_server.bench.mesh import Mesh
from bend_server.bench.rows import Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much of each job is run; the defaults are the contract, `quick` is for a look."""

    singles: int = 200
    chains: int = 2000
    in_flight: int = 256
    fans: tuple[int, ...] = (1000, 10_000)
    fan_rounds: int = 5
    chain: int = 1000
    starts: int = 5
    waiting: int = 100_000
    quick_look: bool = False

    @classmethod
    def quick(cls, in_flight: int) -> "Sizes":
        """Return sizes for a run of about a minute."""
        return cls(
            singles=50,
            chains=500,
            in_flight=in_flight,
            fans=(1000,),
            fan_rounds=2,
            chain=200,
            starts=1,
            waiting=5000,
            quick_look=True,
        )


async def j1(mesh: Mesh, report: Report, sizes: Sizes) -> None:
    """Run single 1-step executions: direct to the engine, by the gateway, and over REST."""
    job = workflows.chain(1)
    certs = mesh.home / "certs"
    status = mesh.status()
    doors = [("j1_envoy_grpc", *mesh.gateway())]
    if mesh.door() != mesh.gateway():
        doors.insert(0, ("j1", *mesh.door()))
    for name, address, identity in doors:
        async with channel(address, certs, identity) as opened:
            load = Load(opened)
            await load.deploy(job)
            for value in range(20):
                await load.run(job, value)
            results = [await load.run(job, value) for value in range(sizes.singles)]
        samples = [took for took, _ in results]
        wrong = sum(not good for _, good in results)
        singles = {"singles": sizes.singles}
        report.row(
            f"{name}_p50",
            statistics.median(samples),
            "ms",
            job="j1",
            params=singles,
            samples=samples,
            wrong=wrong,
        )
        if name == "j1":
            p99 = sorted(samples)[int(len(samples) * 0.99) - 1]
            report.row("j1_p99", p99, "ms", job="j1", params=singles, samples=samples)
    token = mesh.bend("token").strip()
    samples, wrong = await rest_runs(
        str(status["urls"]["https"]), certs / "ca.pem", token, job, sizes.singles
    )
    report.row(
        "j1_rest_p50", statistics.median(samples), "ms", job="j1", samples=samples, wrong=wrong
    )


async def j2(mesh: Mesh, report: Report, sizes: Sizes) -> None:
    """Run chains of 5, many in flight; report steps a second and CPU a step."""
    job = workflows.chain(5)
    address, identity = mesh.door()
    async with channel(address, mesh.home / "certs", identity) as opened:
        load = Load(opened)
        await load.deploy(job)
        await load.chains(job, sizes.in_flight, sizes.in_flight)
        pids = mesh.pids()
        before = processes.cpu_us(pids)
        own = processes.own_cpu_us()
        seconds, wrong = await load.chains(job, sizes.chains, sizes.in_flight)
        spent = processes.spent_us(before, processes.cpu_us(pids))
        generator = processes.own_cpu_us() - own
    steps = sizes.chains * job.steps
    cpu = {name: us / steps for name, us in spent.items()}
    params = {"executions": sizes.chains, "length": job.steps, "in_flight": sizes.in_flight}
    report.row(
        "j2_steps_per_s", steps / seconds, "steps/s", job="j2", params=params, wrong=wrong, cpu=cpu
    )
    if not cpu:
        return
    report.row(
        "j2_cpu_per_step",
        sum(cpu.values()),
        "us",
        job="j2",
        params=params | {"load_generator_us": round(generator / steps, 1)},
        cpu=cpu,
    )


async def j3(mesh: Mesh, report: Report, sizes: Sizes) -> None:
    """Run wide fan-outs with a join."""
    address, identity = mesh.door()
    async with channel(address, mesh.home / "certs", identity) as opened:
        load = Load(opened)
        for width in sizes.fans:
            job = workflows.fan_out(width)
            await load.deploy(job)
            await load.run(job, 0)
            results = [await load.run(job, value) for value in range(sizes.fan_rounds)]
            samples = [took / 1000 for took, _ in results]
            report.row(
                f"j3_{width}",
                statistics.median(samples),
                "s",
                job="j3",
                params={"width": width},
                samples=samples,
                wrong=sum(not good for _, good in results),
            )


async def j4(mesh: Mesh, report: Report, sizes: Sizes) -> None:
    """Run one long chain; report milliseconds a step."""
    job = workflows.chain(sizes.chain)
    address, identity = mesh.door()
    async with channel(address, mesh.home / "certs", identity) as opened:
        load = Load(opened)
        await load.deploy(job)
        await load.run(workflows.chain(sizes.chain), 0)
        results = [await load.run(job, value) for value in range(3)]
    samples = [took / job.steps for took, _ in results]
    report.row(
        "j4_per_step",
        statistics.median(samples),
        "ms",
        job="j4",
        params={"length": job.steps},
        samples=samples,
        wrong=sum(not good for _, good in results),
    )


JOBS = {"j1": j1, "j2": j2, "j3": j3, "j4": j4}
