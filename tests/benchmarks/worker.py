"""What a task costs in the worker's process: `python -m tests.benchmarks.worker`.

An executor in a process of its own drives trivial tasks in batches of 128, with 512 of credit, as
the real one does. Printed: processor time of the whole worker process (all threads) per task, the
rate, and the median of one task at a time.
"""

import argparse
import asyncio
import multiprocessing
import multiprocessing.connection
import time
from typing import Any

import grpc.aio

from bend import Context, Worker, component
from bend.process import loop_factory
from bend.v1 import executor_service_pb2 as pb
from bend.v1 import executor_service_pb2_grpc

BATCH = 128
CREDIT = 512
PINGS = 200
INPUT = b'{"number":1,"text":"' + b"x" * 75 + b'"}'
NAMES = ("coroutine", "coroutine with context", "plain function")


@component("bench.coroutine")
async def coroutine(number: int, text: str) -> dict[str, Any]:
    """Answer about 60 bytes."""
    return {"number": number + 1, "text": text[:40]}


@component("bench.context")
async def contextual(context: Context, number: int, text: str) -> dict[str, Any]:
    """Answer about 60 bytes, and ask for the context."""
    return {"number": number + context.attempt, "text": text[:40]}


@component("bench.plain")
def plain(number: int, text: str) -> dict[str, Any]:
    """Answer about 60 bytes, in a thread."""
    return {"number": number + 1, "text": text[:40]}


class Driver(executor_service_pb2_grpc.ExecutorServiceServicer):
    """Drives one worker through all components; tells the parent when each part begins and ends."""

    def __init__(self, pipe: "multiprocessing.connection.Connection", count: int) -> None:
        self.pipe = pipe
        self.count = count
        self.done = asyncio.Event()

    async def Connect(self, requests: Any, context: Any) -> None:  # noqa: N802 - gRPC's name
        """Serve the one stream."""
        await context.read()
        welcome = pb.Welcome(executor="bench", heartbeat_interval_ms=15_000)
        await context.write(pb.ConnectResponse(welcome=welcome))
        for part in range(len(NAMES)):
            await self.drive(context, part, 2_000)
            self.pipe.send(("begin", part))
            spent = await self.drive(context, part, self.count)
            self.pipe.send(("end", spent))
        self.pipe.send(("ping", await self.ping(context)))
        self.done.set()

    async def drive(self, context: Any, part: int, count: int) -> float:
        """Run `count` tasks; return the seconds."""
        began = time.perf_counter()
        sent = ended = 0
        while ended < count:
            while sent < count and sent - ended <= CREDIT - BATCH:
                size = min(BATCH, count - sent)
                tasks = [task(sent + at, part) for at in range(size)]
                await context.write(pb.ConnectResponse(tasks=pb.TaskBatch(tasks=tasks)))
                sent += size
            message = await context.read()
            for result in message.results.results:
                if not result.output.startswith(b'{"number":2'):
                    raise AssertionError(f"wrong result: {result}")
            ended += len(message.results.results)
        return time.perf_counter() - began

    async def ping(self, context: Any) -> float:
        """Return the median of one task at a time, milliseconds."""
        spans = []
        for number in range(PINGS):
            spans.append(await self.drive(context, 0, 1))
            await asyncio.sleep(0.002 if number else 0.1)
        return sorted(spans)[PINGS // 2] * 1000


def task(number: int, part: int) -> pb.Task:
    """Make one task."""
    return pb.Task(
        run_id=number + 1,
        component=part,
        input=INPUT,
        execution_id="flow-0000000001",
        task="step",
        attempt=1,
        namespace="default",
        timeout_ms=300_000,
    )


def drive(pipe: "multiprocessing.connection.Connection", count: int) -> None:
    """The executor's process."""

    async def body() -> None:
        server = grpc.aio.server()
        driver = Driver(pipe, count)
        executor_service_pb2_grpc.add_ExecutorServiceServicer_to_server(driver, server)
        pipe.send(("port", server.add_insecure_port("127.0.0.1:0")))
        await server.start()
        await driver.done.wait()
        await server.stop(None)

    asyncio.run(body())


async def measure(count: int) -> None:
    """Serve until the driver is through; print a line per part."""
    ours, theirs = multiprocessing.Pipe()
    spawning = multiprocessing.get_context("spawn")
    process = spawning.Process(target=drive, args=(theirs, count), daemon=True)
    process.start()
    _, port = await asyncio.to_thread(ours.recv)
    functions = [coroutine, contextual, plain]
    worker = Worker(functions, credit=CREDIT, url=f"http://127.0.0.1:{port}")
    async with asyncio.TaskGroup() as group:
        group.create_task(worker.serve())
        for name in NAMES:
            await asyncio.to_thread(ours.recv)
            began = time.process_time()
            _, spent = await asyncio.to_thread(ours.recv)
            cost = (time.process_time() - began) / count * 1e6
            print(f"{name}: {cost:.1f} us of processor time per task, {count / spent:,.0f} tasks/s")
        _, ping = await asyncio.to_thread(ours.recv)
        print(f"one at a time: {ping:.2f} ms")
        worker.stop()
    process.join(5)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    count = parser.parse_args().count
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(measure(count))


if __name__ == "__main__":
    main()
