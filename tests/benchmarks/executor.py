"""CPU cost of the executor per task: real nats-server, real gRPC, a worker that only echoes.

    python -m tests.benchmarks.executor [--tasks N] [--frame N] [--in-flight N] [--profile FILE]

Three processes: the engine's side (this one: publishes frames, takes and acks results), the
executor, and a worker that answers each batch with one message. Prints JSON lines; the CPU of
each process is read from /proc.
"""

import argparse
import asyncio
import cProfile
import multiprocessing
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import grpc
import orjson
import psutil
import uvloop

from bend.internal.v1 import frames_pb2
from bend.v1 import executor_service_pb2 as pb
from bend.v1 import executor_service_pb2_grpc
from bend_server.executor.groups import group_id
from bend_server.ports.queue import RESULTS
from bend_server.queue.jetstream import NatsQueue
from bend_server.rpc.connect import executor_service
from tests.kit.certificates import TestAuthority
from tests.kit.links import House, contract
from tests.kit.nats import NatsServer
from tests.rpc.door import channel, serving

CREDIT = 1024
GROUP = group_id("default", "echo", "1.0.0", {})


class WallClock:
    """The machine's time."""

    def now_us(self) -> int:
        return time.time_ns() // 1000


async def run_executor(folder: Path, url: str, ready: Connection) -> None:
    """Serve until told to stop."""
    authority = TestAuthority(folder)
    for path in ("/executor", "/component/echo"):
        authority.issue(path)
    queue = await NatsQueue.connect(url, name="executor")
    house = House(queue, WallClock(), start=time.time_ns(), drain_grace_s=1.0)
    await house.room.start()
    async with serving(authority, [executor_service(house.room)], role="executor") as server:
        ready.send(server.port)
        await asyncio.to_thread(ready.recv)
        await house.room.stop()
    await queue.close()


def executor_process(folder: Path, url: str, ready: Connection, profile: str) -> None:
    """Entry of the executor's process."""
    profiler = cProfile.Profile() if profile else None
    if profiler:
        profiler.enable()
    uvloop.run(run_executor(folder, url, ready))
    if profiler:
        profiler.disable()
        profiler.dump_stats(profile)


async def run_worker(folder: Path, port: int) -> None:
    """Echo until the stream ends."""
    authority = TestAuthority.__new__(TestAuthority)
    authority.folder, authority.ca = folder, folder / "ca.pem"
    async with channel(authority, port, "component-echo") as open_channel:
        call = executor_service_pb2_grpc.ExecutorServiceStub(open_channel).Connect()
        hello = pb.Hello(
            protocol_version=1, instance_id="w1", credit=CREDIT, components=[contract("echo")]
        )
        await call.write(pb.ConnectRequest(hello=hello))
        beat_at = time.monotonic() + 3
        while (message := await call.read()) is not grpc.aio.EOF:
            if message.tasks.tasks:
                answer = pb.ConnectRequest()
                for task in message.tasks.tasks:
                    answer.results.results.add(run_id=task.run_id, output=task.input)
                await call.write(answer)
            if time.monotonic() > beat_at:
                beat_at = time.monotonic() + 3
                await call.write(pb.ConnectRequest(heartbeat=pb.Heartbeat()))


def worker_process(folder: Path, port: int) -> None:
    """Entry of the worker's process."""
    try:
        uvloop.run(run_worker(folder, port))
    except grpc.aio.AioRpcError as error:
        print(error.details(), file=sys.stderr)


def cpu_s(pid: int) -> float:
    """Return user and system seconds of a process."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


async def drive(queue: NatsQueue, total: int, size: int, in_flight: int) -> float:
    """Push tasks through with a window; return the seconds."""
    consumer = await queue.consume(RESULTS, "results.0", "r-0", 30, None)
    consumer.demand(1000)
    body = orjson.dumps({"customer": "c-1234567", "amount": 1234.5, "note": "x" * 40})
    sent = done = 0
    seen: set[int] = set()
    publishing: set[asyncio.Task[int]] = set()
    began = time.perf_counter()

    def push() -> None:
        nonlocal sent
        while sent < total and sent - done + size <= in_flight:
            frame = frames_pb2.TaskFrame(namespace="default", group=GROUP, slot=0)
            for number in range(sent, min(sent + size, total)):
                frame.tasks.add(
                    execution=number,
                    task=0,
                    attempt=1,
                    input=body,
                    execution_id=f"flow-{number}",
                    task_id="step",
                    component="echo",
                    timeout_ms=300_000,
                    schedule_deadline_us=time.time_ns() // 1000 + 3_600_000_000,
                    **{"try": 1},
                )
            sent += len(frame.tasks)
            task = asyncio.create_task(queue.publish(f"tasks.{GROUP}", frame.SerializeToString()))
            publishing.add(task)
            task.add_done_callback(publishing.discard)

    push()
    while done < total:
        delivery = await consumer.next()
        results = frames_pb2.ResultFrame.FromString(delivery.data).results
        for result in results:
            if result.execution in seen or result.output != body:
                raise SystemExit(f"wrong result {result}")
            seen.add(result.execution)
        done += len(results)
        queue.ack(delivery.token)
        consumer.demand(1000)
        push()
    took = time.perf_counter() - began
    await consumer.close()
    return took


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser()
    options.add_argument("--tasks", type=int, default=100_000)
    options.add_argument("--frame", type=int, default=64)
    options.add_argument("--in-flight", type=int, default=256)
    options.add_argument("--profile", default="")
    chosen = options.parse_args()
    spawning = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        nats = NatsServer(folder / "nats").start()
        ours, theirs = spawning.Pipe()
        executor = spawning.Process(
            target=executor_process, args=(folder / "certs", nats.url, theirs, chosen.profile)
        )
        executor.start()
        port = ours.recv()
        worker = spawning.Process(target=worker_process, args=(folder / "certs", port))
        worker.start()
        try:
            uvloop.run(measure(nats, chosen, executor.pid or 0, worker.pid or 0))
        finally:
            ours.send("stop")
            executor.join(20)
            worker.kill()
            executor.kill()
            nats.stop()


async def measure(nats: NatsServer, chosen: Any, executor: int, worker: int) -> None:
    """Warm up, then measure one run."""
    queue = await NatsQueue.connect(nats.url, name="bench")
    await drive(queue, 2000, chosen.frame, chosen.in_flight)
    pids = {"executor": executor, "worker": worker, "nats": nats.pid}
    before = {role: cpu_s(pid) for role, pid in pids.items()}
    took = await drive(queue, chosen.tasks, chosen.frame, chosen.in_flight)
    spent = {
        role: round((cpu_s(pid) - before[role]) / chosen.tasks * 1e6, 2)
        for role, pid in pids.items()
    }
    row = {
        "name": "executor_tasks_per_s",
        "value": round(chosen.tasks / took),
        "cpu_us_per_task": spent,
        "frame": chosen.frame,
        "in_flight": chosen.in_flight,
    }
    print(orjson.dumps(row).decode())
    await queue.close()


if __name__ == "__main__":
    main()
