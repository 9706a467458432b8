"""What the engine process costs, all included: microseconds of CPU per step, and latencies.

`python -m tests.benchmarks.engine [--executions N] [--in-flight N] [--profile FILE]` prints one
JSON line per figure. The store is a real SQLite file (fsync on), the queue is the memory twin; the
executor runs in the same process and its own time is taken off.
"""

import argparse
import asyncio
import cProfile
import gc
import json
import resource
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvloop

from bend.internal.v1 import control_pb2, frames_pb2
from bend_server.engine import Engine, EngineOptions
from bend_server.engine.plans import StoredPlans
from bend_server.ports.engine import StartCommand
from bend_server.ports.queue import TASKS, Delivery, Queue
from bend_server.queue.jetstream import NatsQueue
from bend_server.queue.memory import MemoryBroker, MemoryQueue
from bend_server.storage.opening import open_store
from bend_server.storage.stores import Stores
from tests.engine.house import MemoryBlobs, SeededChance
from tests.kit.nats import NatsServer

GROUP = "0123456789abcdef"
INPUT = (
    b'{"customer":"c-1234567","amount":129.95,"currency":"EUR","items":[1,2,3],"note":"benchmark"}'
)
OUTPUT = b'{"value":12345,"text":"a short output of a component of ours"}'


class WallClock:
    """The machine's time."""

    def now_us(self) -> int:
        """Return Unix microseconds."""
        return time.time_ns() // 1000


class EchoExecutor:
    """Answers every frame at once; counts its own time."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self.spent_ns = 0
        self.tasks = 0
        self._loops: list[asyncio.Task[None]] = []
        self._publishes: dict[asyncio.Task[None], None] = {}

    async def start(self) -> None:
        """Announce the group and pull."""
        self._loops = [asyncio.create_task(self._announce()), asyncio.create_task(self._pull())]

    async def stop(self) -> None:
        """End."""
        for loop in self._loops:
            loop.cancel()

    async def _announce(self) -> None:
        sequence = 0
        while True:
            sequence += 1
            message = control_pb2.InstanceAnnouncement(
                executor="x", sequence=sequence, incarnation=1
            )
            message.groups.add(
                group=GROUP,
                namespace="default",
                component="bench.echo",
                version="1.0.0",
                credit=4096,
            )
            await self._queue.broadcast("registry.announce", message.SerializeToString())
            await asyncio.sleep(3)

    async def _pull(self) -> None:
        consumer = await self._queue.consume(TASKS, f"tasks.{GROUP}", f"g-{GROUP}", 10.0, 60.0)
        consumer.demand(1 << 30)
        while True:
            delivery = await consumer.next()
            began = time.thread_time_ns()
            data, slot = self._answer(delivery)
            self.spent_ns += time.thread_time_ns() - began
            publish = asyncio.create_task(self._publish(f"results.{slot}", data, delivery.token))
            self._publishes[publish] = None
            publish.add_done_callback(self._publishes.pop)

    async def _publish(self, subject: str, data: bytes, token: str) -> None:
        await self._queue.publish(subject, data)
        self._queue.ack(token)

    def _answer(self, delivery: Delivery) -> tuple[bytes, int]:
        frame = frames_pb2.TaskFrame.FromString(delivery.data)
        results = frames_pb2.ResultFrame(executor="x")
        add = results.results.add
        for task in frame.tasks:
            add(
                execution=task.execution,
                task=task.task,
                item=task.item,
                status=1,
                output=OUTPUT,
                run_id=77,
                worker="worker-1",
                started_us=1,
                finished_us=2,
                **{"try": getattr(task, "try")},
            )
        self.tasks += len(frame.tasks)
        return results.SerializeToString(), frame.slot


def chain_document(length: int, *, templates: bool) -> bytes:
    """Return a chain; with templates each task takes its input from the one before."""
    lines = ["name: chain", "tasks:"]
    for place in range(length):
        lines += [f"  - id: t{place}", "    type: bench.echo"]
        if place:
            lines.append(f"    depends_on: [t{place - 1}]")
        if templates and place:
            lines.append(f'    value: "{{{{t{place - 1}.value}}}}"')
        elif templates:
            lines.append('    value: "{{input.amount}}"')
    return "\n".join(lines).encode()


def fan_document(width: int) -> bytes:
    """Return a fan-out with a join."""
    lines = ["name: fan", "tasks:"]
    for place in range(width):
        lines += [f"  - id: t{place}", "    type: bench.echo"]
    names = ", ".join(f"t{place}" for place in range(width))
    lines += ["  - id: join", "    type: bench.echo", f"    depends_on: [{names}]"]
    return "\n".join(lines).encode()


class Bench:
    """One engine over a SQLite file."""

    def __init__(self, stores: Stores, engine: Engine, executor: EchoExecutor) -> None:
        self.stores = stores
        self.engine = engine
        self.executor = executor

    async def workflow(self, name: str, document: bytes) -> None:
        """Store a document."""
        await self.stores.workflows.put_revision(
            "default",
            name,
            document=document,
            digest=name,
            description="",
            labels=b"{}",
            task_count=1,
            pins=b"{}",
            plan_format=1,
            now_us=1,
            create_only=False,
        )

    async def start(self, name: str, count: int) -> list[int]:
        """Start executions; return their ids."""
        wish = StartCommand("default", name, 1, True, INPUT, b"{}", "", None, "", "user/bench", "")
        outcomes = await self.engine.start_executions([wish] * count)
        for outcome in outcomes:
            if outcome.error is not None:
                raise outcome.error
        return [outcome.execution for outcome in outcomes]


@asynccontextmanager
async def open_bench(folder: Path, nats: str = "") -> AsyncIterator[Bench]:
    """Open everything; with a NATS address the executor is a process of its own."""
    clock = WallClock()
    stores = await open_store(f"sqlite:///{folder / 'bench.db'}", clock)
    broker = MemoryBroker()
    queue: Queue = await NatsQueue.connect(nats) if nats else MemoryQueue(broker, "engine")
    engine = Engine(
        stores.engine,
        queue,
        MemoryBlobs(),
        clock,
        SeededChance(),
        StoredPlans(stores.engine),
        EngineOptions(),
    )
    executor = EchoExecutor(MemoryQueue(broker, "executor"))
    await engine.start()
    process: asyncio.subprocess.Process | None = None
    try:
        if nats:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.benchmarks.engine", "--executor", nats
            )
        else:
            await executor.start()
        yield Bench(stores, engine, executor)
    finally:
        await executor.stop()
        if process is not None:
            process.kill()
            await process.wait()
        await engine.stop()
        if isinstance(queue, NatsQueue):
            await queue.close()
        await stores.close()


def say(name: str, value: float, unit: str, **params: object) -> None:
    """Print one figure."""
    print(json.dumps({"name": name, "value": round(value, 3), "unit": unit, **params}), flush=True)


async def run_chains(bench: Bench, name: str, executions: int, in_flight: int) -> None:
    """Keep executions in flight until all have ended."""
    left = executions

    async def cohort() -> None:
        nonlocal left
        while left > 0:
            count = min(left, max(1, in_flight // 8))
            left -= count
            ids = await bench.start(name, count)
            async for _ in bench.engine.ended(ids):
                pass

    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(cohort())


async def j2(bench: Bench, name: str, executions: int, in_flight: int, steps: int) -> None:
    """Measure chains."""
    await run_chains(bench, name, min(executions, 500), in_flight)
    spent = bench.executor.spent_ns
    results = bench.engine.counters.get("results", 0)
    wall, cpu, loop = time.perf_counter(), time.process_time(), time.thread_time()
    await run_chains(bench, name, executions, in_flight)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    loop = time.thread_time() - loop
    done = bench.engine.counters["results"] - results
    if done != executions * steps:
        raise RuntimeError(f"{done} tasks ran, not {executions * steps}")
    own = (bench.executor.spent_ns - spent) / 1e9
    say("engine_cpu_per_step", (cpu - own) / done * 1e6, "us", job=name, in_flight=in_flight)
    say("of_this_in_the_loop", (loop - own) / done * 1e6, "us", job=name, in_flight=in_flight)
    say("steps_per_s", done / wall, "1/s", job=name, in_flight=in_flight)


async def j1(bench: Bench, count: int) -> None:
    """Measure single executions of one task."""
    samples: list[float] = []
    for _ in range(count):
        began = time.perf_counter()
        (execution,) = await bench.start("one", 1)
        await bench.engine.wait(execution, 10.0)
        samples.append((time.perf_counter() - began) * 1e3)
    samples.sort()
    say("j1_p50", samples[len(samples) // 2], "ms")
    say("j1_p99", samples[len(samples) * 99 // 100], "ms")


async def j3(bench: Bench, width: int) -> None:
    """Measure a fan-out with a join."""
    name = f"fan{width}"
    await bench.workflow(name, fan_document(width).replace(b"name: fan", f"name: {name}".encode()))
    await bench.engine._starts._find_plans(  # Compiling is not the question.
        [StartCommand("default", name, 1, True, INPUT, b"{}", "", None, "", "", "")]
    )
    began = time.perf_counter()
    (execution,) = await bench.start(name, 1)
    await bench.engine.wait(execution, 60.0)
    say("j3", time.perf_counter() - began, "s", width=width)


async def serve(nats: str) -> None:
    """Be the executor process."""
    executor = EchoExecutor(await NatsQueue.connect(nats))
    await executor.start()
    await asyncio.Event().wait()


async def waiting(folder: Path, count: int) -> None:
    """Measure executions that wait for an instance: memory each, and the restart."""
    async with open_bench(folder) as bench:
        await bench.executor.stop()
        await asyncio.sleep(11)
        await bench.workflow("chain", chain_document(5, templates=True))
        gc.collect()
        before = _rss()
        for _ in range(count // 1000):
            await bench.start("chain", 1000)
        gc.collect()
        say("waiting_bytes", (_rss() - before) / count, "B", executions=count)
    began = time.perf_counter()
    async with open_bench(folder) as bench:
        say("restart", time.perf_counter() - began, "s", executions=bench.engine.live_count())
        gc.collect()


def _rss() -> int:
    status = Path("/proc/self/statm").read_text(encoding="ascii").split()
    return int(status[1]) * resource.getpagesize()


async def main(options: argparse.Namespace) -> None:
    """Run all jobs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = NatsServer(folder / "nats").start() if options.nats else None
        async with open_bench(folder, server.url if server else "") as bench:
            await bench.workflow("chain", chain_document(5, templates=True))
            await bench.workflow("one", chain_document(1, templates=True))
            await run_chains(bench, "chain", 64, 64)
            gc.collect()
            gc.freeze()
            gc.set_threshold(50_000)
            await j1(bench, 300)
            profile = cProfile.Profile() if options.profile else None
            if profile:
                profile.enable()
            await j2(bench, "chain", options.executions, options.in_flight, 5)
            if profile:
                profile.disable()
                profile.dump_stats(options.profile)
            await j2(bench, "chain", options.executions, 1024, 5)
            await j3(bench, 1000)
            await j3(bench, 10_000)
        if server is not None:
            server.kill()
        if options.waiting:
            (folder / "waiting").mkdir()
            await waiting(folder / "waiting", options.waiting)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--executions", type=int, default=4000)
    parser.add_argument("--in-flight", type=int, default=256)
    parser.add_argument("--waiting", type=int, default=0)
    parser.add_argument("--profile")
    parser.add_argument("--nats", action="store_true")
    parser.add_argument("--executor", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    uvloop.run(serve(chosen.executor) if chosen.executor else main(chosen))
