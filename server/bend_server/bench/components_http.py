"""The http component: alone over HTTP/1.1 and 2, its memory, and the road through the engine."""

import asyncio
import contextlib
import gc
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import psutil

from bend import Context, Final
from bend.components import component_of
from bend_executors.http import HttpComponent, Options
from bend_executors.reach import Allowance
from bend_server.bench import processes
from bend_server.bench.http_target import BODY
from bend_server.bench.load import Load, channel
from bend_server.bench.rows import Report
from bend_server.bench.workflows import Job

if TYPE_CHECKING:
    from bend_server.bench.mesh import Mesh

LOOPBACK = "127.0.0.0/8"
IN_FLIGHT = 32
WARM_UP = 1000
OUTPUT = orjson.loads(BODY)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSizes:
    """How many requests each row makes."""

    alone: int = 20_000
    sealed: int = 5000
    memory: int = 100_000
    road: int = 5000

    @classmethod
    def quick(cls) -> "HttpSizes":
        """Return sizes for a look."""
        return cls(alone=3000, sealed=1000, memory=10_000, road=1000)


class Silent:
    """A context's sink that drops all."""

    cancelled = False

    def log(self, level: str, message: str) -> None:
        """Drop a line."""

    def beat(self) -> None:
        """Drop a heartbeat."""


class HttpJob(Job):
    """One http task; its output is the target's answer."""

    def expected(self, value: int) -> dict[str, object]:
        """Return the one right output."""
        del value
        return {self.leaf: OUTPUT}


@contextlib.contextmanager
def target(*arguments: str) -> Iterator[int]:
    """Run the server in a process of its own; gives its port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bend_server.bench.http_target", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        yield int(process.stdout.readline())  # type: ignore[union-attr]
    finally:
        process.stdin.close()  # type: ignore[union-attr]
        process.wait(10)
        process.stdout.close()  # type: ignore[union-attr]


async def calls(http: HttpComponent, url: str, count: int) -> tuple[float, float, int]:
    """Call as a worker does; return (seconds, this process's CPU in microseconds, wrong)."""
    component = component_of(http.request)
    values = orjson.dumps({"url": url})
    todo = iter(range(count))
    wrong = 0

    async def work() -> None:
        nonlocal wrong
        for number in todo:
            bound = component.bind(values)
            context = Context(Silent(), execution_id=f"e-{number}", task="call")
            output: Any = None
            async with contextlib.aclosing(component.function(context=context, **bound)) as found:
                async for value in found:
                    if isinstance(value, Final):
                        output = value.value
            wrong += output != OUTPUT

    cpu, begin = processes.own_cpu_us(), time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(IN_FLIGHT):
            group.create_task(work())
    return time.perf_counter() - begin, processes.own_cpu_us() - cpu, wrong


async def alone(report: Report, sizes: HttpSizes) -> None:
    """Measure HTTP/1.1, then what many more requests leave in memory."""
    params: dict[str, object] = {"in_flight": IN_FLIGHT}
    http = HttpComponent(Options(allow=Allowance([LOOPBACK])))
    with target() as port:
        url = f"http://127.0.0.1:{port}/"
        await calls(http, url, WARM_UP)
        seconds, cpu, wrong = await calls(http, url, sizes.alone)
        report.row(
            "http_requests_per_s",
            sizes.alone / seconds,
            "1/s",
            job="http",
            params=params | {"requests": sizes.alone},
            wrong=wrong,
            cpu={"component": cpu / sizes.alone},
        )
        gc.collect()
        before = psutil.Process().memory_info().rss
        _, _, wrong = await calls(http, url, sizes.memory)
        gc.collect()
        grown = psutil.Process().memory_info().rss - before
        stats = http.stats()
        report.row(
            "http_memory_growth",
            grown / 1e6,
            "MB",
            job="http",
            params=params | {"requests": sizes.memory} | {k: stats[k] for k in ("connections",)},
            wrong=wrong,
        )
    await http.close()


async def sealed(report: Report, sizes: HttpSizes, certs: Path) -> None:
    """Measure HTTP/2 over one TLS connection; the target is Python, too, and takes its time."""
    authority = str(certs / "ca.pem")
    http = HttpComponent(Options(allow=Allowance([LOOPBACK]), ca_file=authority))
    with target(str(certs / "gateway.pem"), str(certs / "gateway.key")) as port:
        url = f"https://localhost:{port}/"
        await calls(http, url, WARM_UP // 5)
        seconds, cpu, wrong = await calls(http, url, sizes.sealed)
        report.row(
            "http2_requests_per_s",
            sizes.sealed / seconds,
            "1/s",
            job="http",
            params={
                "in_flight": IN_FLIGHT,
                "requests": sizes.sealed,
                "connections": http.stats()["connections"],
            },
            wrong=wrong,
            cpu={"component": cpu / sizes.sealed},
        )
    await http.close()


async def road(mesh: "Mesh", report: Report, sizes: HttpSizes, in_flight: int) -> None:
    """Measure executions of one http task each: client, engine, executor, component and back."""
    # The mesh's components refuse loopback; an operator's file opens it, read at their start.
    mesh.down()
    settings = mesh.home / "components.yaml"
    settings.write_text(f'http: {{allow: ["{LOOPBACK}"]}}\n', encoding="utf-8")
    mesh.up()
    with target() as port:
        tasks = [{"id": "call", "type": "http", "url": f"http://127.0.0.1:{port}/"}]
        job = HttpJob("bench_http", {"name": "bench_http", "tasks": tasks}, "call", 1)
        async with channel(mesh.address(mesh.engine), mesh.home / "certs", "bench") as opened:
            load = Load(opened)
            await load.deploy(job)
            await load.chains(job, in_flight, in_flight)
            pids = mesh.pids()
            before = processes.cpu_us(pids)
            seconds, wrong = await load.chains(job, sizes.road, in_flight)
            spent = processes.spent_us(before, processes.cpu_us(pids))
    report.row(
        "http_road_per_s",
        sizes.road / seconds,
        "1/s",
        job="http",
        params={"executions": sizes.road, "in_flight": in_flight},
        wrong=wrong,
        cpu={name: us / sizes.road for name, us in spent.items()},
    )


async def measure(mesh: "Mesh", report: Report, *, quick: bool, in_flight: int) -> None:
    """Run all rows of the job `http`."""
    sizes = HttpSizes.quick() if quick else HttpSizes()
    await alone(report, sizes)
    await sealed(report, sizes, mesh.home / "certs")
    await road(mesh, report, sizes, in_flight)
