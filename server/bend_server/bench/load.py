"""The load generator: starts executions, waits for their ends, checks every output."""

import asyncio
import ssl
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import httpx
import orjson
from google.api import httpbody_pb2

from bend.v1 import engine_service_pb2 as engine
from bend.v1 import engine_service_pb2_grpc, execution_pb2
from bend_server.bench.workflows import Job

COMPLETED = execution_pb2.Execution.COMPLETED
CALL_S = 300
BATCH_MAX = 1000


def channel(address: str, certs: Path, identity: str) -> grpc.aio.Channel:
    """Open an mTLS channel with one of the mesh's own certificates."""
    credentials = grpc.ssl_channel_credentials(
        (certs / "ca.pem").read_bytes(),
        (certs / f"{identity}.key").read_bytes(),
        (certs / f"{identity}.pem").read_bytes(),
    )
    options = [
        ("grpc.ssl_target_name_override", "localhost"),
        ("grpc.enable_http_proxy", 0),
        ("grpc.max_receive_message_length", 64 << 20),
        ("grpc.max_send_message_length", 64 << 20),
    ]
    return grpc.aio.secure_channel(address, credentials, options)


class Load:
    """Talks to one engine (or the gateway) by gRPC."""

    def __init__(self, opened: grpc.aio.Channel) -> None:
        self._stub = engine_service_pb2_grpc.EngineServiceStub(opened)

    async def deploy(self, job: Job) -> None:
        """Store a job's workflow."""
        document = httpbody_pb2.HttpBody(
            content_type="application/json", data=orjson.dumps(job.document)
        )
        await self._stub.UpdateWorkflow(
            engine.UpdateWorkflowRequest(name=job.name, document=document), timeout=CALL_S
        )

    async def run(self, job: Job, value: int) -> tuple[float, bool]:
        """Run one execution and wait; return (milliseconds, whether the output was right)."""
        request = engine.RunWorkflowRequest(
            start=engine.StartRequest(workflow=job.name, parameters=b'{"value":%d}' % value)
        )
        begin = time.perf_counter()
        answer = await self._stub.RunWorkflow(request, timeout=CALL_S)
        took = (time.perf_counter() - begin) * 1000
        return took, right(job, value, answer.execution)

    async def start(self, job: Job, values: Sequence[int]) -> dict[str, int]:
        """Start one execution a value; return value by execution id. Raises when one is refused."""
        ids: dict[str, int] = {}
        for at in range(0, len(values), BATCH_MAX):
            page = values[at : at + BATCH_MAX]
            starts = [
                engine.StartRequest(workflow=job.name, parameters=b'{"value":%d}' % v) for v in page
            ]
            answer = await self._stub.StartExecutions(
                engine.StartExecutionsRequest(starts=starts), timeout=CALL_S
            )
            for value, outcome in zip(page, answer.outcomes, strict=True):
                if outcome.code:
                    raise RuntimeError(f"start refused: {outcome.reason}: {outcome.message}")
                ids[outcome.execution_id] = value
        return ids

    async def chains(self, job: Job, count: int, in_flight: int) -> tuple[float, int]:
        """Run `count` executions, `in_flight` at once; return (seconds, wrong outputs)."""
        todo = iter(range(count))
        finished: asyncio.Queue[int] = asyncio.Queue()
        wrong = 0

        async def follow(values: Sequence[int]) -> None:
            nonlocal wrong
            ids = await self.start(job, values)
            request = engine.WatchExecutionsRequest(execution_ids=list(ids), include_payloads=True)
            async for answer in self._stub.WatchExecutions(request, timeout=CALL_S):
                for execution in answer.executions:
                    value = ids.pop(execution.execution_id)
                    wrong += not right(job, value, execution)
                finished.put_nowait(len(answer.executions))
            if ids:
                wrong += len(ids)
                finished.put_nowait(len(ids))

        begin = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            first = [v for v, _ in zip(todo, range(in_flight), strict=False)]
            running = len(first)
            group.create_task(follow(first))
            while running:
                done = await finished.get()
                while not finished.empty():
                    done += finished.get_nowait()
                running -= done
                more = [v for v, _ in zip(todo, range(done), strict=False)]
                if more:
                    running += len(more)
                    group.create_task(follow(more))
        return time.perf_counter() - begin, wrong


def right(job: Job, value: int, execution: Any) -> bool:
    """Tell whether an execution completed with exactly the expected output."""
    if execution.status != COMPLETED:
        return False
    return bool(orjson.loads(execution.output) == job.expected(value))


async def rest_runs(
    url: str, ca: Path, token: str, job: Job, count: int
) -> tuple[list[float], int]:
    """Run executions one by one over REST; return (milliseconds each, wrong outputs)."""
    samples: list[float] = []
    wrong = 0
    context = ssl.create_default_context(cafile=str(ca))
    headers = {"authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(verify=context, headers=headers, timeout=CALL_S) as client:
        for value in range(count):
            begin = time.perf_counter()
            answer = await client.post(
                f"{url}/v1/run", json={"workflow": job.name, "parameters": {"value": value}}
            )
            samples.append((time.perf_counter() - begin) * 1000)
            body = answer.json()
            wrong += body.get("status") != "completed" or body["output"] != job.expected(value)
    return samples, wrong
