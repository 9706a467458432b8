"""One real mesh under attack: its doors, its certificates, and a load that must be right."""

import asyncio
import ssl
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import nats
import orjson
from nats.aio.client import Client as NatsClient

from bend import Worker, component
from bend_server.bench.mesh import Mesh
from bend_server.certificates import Authority
from bend_server.local.nats import inbox_prefix
from tests.kit.loops import eventually
from tests.kit.workers import RunningWorker

END_S = 150.0
LENGTH = 4
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"}
HELD_S = 60.0
RELEASED = threading.Event()
"""What `hostile.held` waits for; the worker runs in the tests' own process."""


@component("hostile.step", version="1.0.0")
async def step(value: int, wait_ms: int = 0) -> dict[str, int]:
    """Take some time, answer the next value."""
    if wait_ms:
        await asyncio.sleep(wait_ms / 1000)
    return {"value": value + 1}


@component("hostile.held", version="1.0.0")
def held(value: int) -> dict[str, int]:
    """Answer the next value when a test lets it."""
    RELEASED.wait(HELD_S)
    return {"value": value + 1}


@component("hostile.text", version="1.0.0")
async def text(size: int) -> str:
    """Answer a JSON string of exactly `size` bytes, quotes included."""
    return "x" * (size - 2)


@component("hostile.count", version="1.0.0")
async def count(values: Any) -> dict[str, int]:
    """Answer how large its input was, as compact JSON."""
    return {"bytes": len(orjson.dumps(values)), "items": len(values)}


class House:
    """A mesh with clients of every kind."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self.certs = mesh.home / "certs"
        self.authority = Authority(self.certs)
        for path in ("/bench", "/component/hostile", "/user/dev"):
            self.authority.leaf(path)
        self.status = mesh.status()
        urls = self.status["urls"]
        self.https, self.http = str(urls["https"]), str(urls["http"])
        self.gateway = self.https.removeprefix("https://")
        self.rest = httpx.Client(base_url=self.http, timeout=60)

    def worker(self) -> RunningWorker:
        """Return a worker that serves the components of this module when entered."""
        return RunningWorker(
            Worker(
                [step, held, text, count],
                url=self.https,
                ca_file=self.certs / "ca.pem",
                cert_file=self.certs / "component-hostile.pem",
                key_file=self.certs / "component-hostile.key",
            )
        )

    def channel(self, address: str, stem: str | None, certs: Path | None = None) -> grpc.Channel:
        """Open a channel with a certificate's file name, or without a certificate."""
        folder = certs or self.certs
        key = chain = None
        if stem is not None:
            key, chain = (
                (folder / f"{stem}.key").read_bytes(),
                (folder / f"{stem}.pem").read_bytes(),
            )
        credentials = grpc.ssl_channel_credentials((self.certs / "ca.pem").read_bytes(), key, chain)
        options = [
            ("grpc.ssl_target_name_override", "localhost"),
            ("grpc.max_send_message_length", 128 << 20),
        ]
        return grpc.secure_channel(address, credentials, options)

    @asynccontextmanager
    async def nats(
        self, stem: str | None, certs: Path | None = None, told: list[str] | None = None
    ) -> AsyncIterator[NatsClient]:
        """Connect to NATS with a certificate; what the server complains about goes to `told`."""
        folder = certs or self.certs
        context = ssl.create_default_context(cafile=str(self.certs / "ca.pem"))
        if stem is not None:
            context.load_cert_chain(folder / f"{stem}.pem", folder / f"{stem}.key")

        async def keep(error: Exception) -> None:
            if told is not None:
                told.append(str(error).lower())

        async with asyncio.timeout(60):
            link = await nats.connect(
                f"tls://{self.mesh.address('nats')}",
                tls=context,
                inbox_prefix=inbox_prefix(stem or "nobody").encode(),
                allow_reconnect=False,
                connect_timeout=30,
                error_cb=keep,
            )
            try:
                # Under TLS 1.3 a refusal may come only with the first answer.
                await link.flush(30)
            except BaseException:
                await link.close()
                raise
        try:
            yield link
        finally:
            await link.close()

    def deploy(self, document: dict[str, Any]) -> None:
        """Store a workflow."""
        answer = self.rest.put(f"/v1/workflows/{document['name']}", json=document)
        assert answer.status_code == 200, answer.text

    def start(self, workflow: str, **parameters: Any) -> str:
        """Start an execution, return its id."""
        body = {"workflow": workflow, "parameters": parameters}
        answer = self.rest.post("/v1/executions", json=body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["execution_id"])

    def ended(self, execution: str, within_s: float = END_S) -> dict[str, Any]:
        """Wait for an execution's end and return it."""
        deadline = time.monotonic() + within_s
        while True:
            answer = self.rest.get(
                f"/v1/executions/{execution}:wait", params={"wait_timeout": "5s"}, timeout=60
            )
            assert answer.status_code == 200, answer.text
            found: dict[str, Any] = answer.json()
            if found["status"] in ENDED:
                return found
            assert time.monotonic() < deadline, found

    def run(self, document: dict[str, Any], **parameters: Any) -> dict[str, Any]:
        """Store a workflow, run it once and return its end."""
        self.deploy(document)
        return self.ended(self.start(str(document["name"]), **parameters))

    def chain(self) -> None:
        """Store the load's workflow: each step takes a moment, so that tasks are under way."""
        tasks = [
            {
                "id": f"s{n}",
                "type": "hostile.step",
                "value": "{{input.value}}" if n == 1 else f"{{{{s{n - 1}.value}}}}",
                "wait_ms": 20,
            }
            for n in range(1, LENGTH + 1)
        ]
        self.deploy({"name": "hostile_chain", "tasks": tasks})

    def start_load(self, count: int) -> dict[str, int]:
        """Start executions; return each one's value by its id."""
        return {self.start("hostile_chain", value=value): value for value in range(count)}

    def judge(self, load: dict[str, int]) -> None:
        """Fail unless every execution of a load ends with its only right output."""
        for execution, value in load.items():
            found = self.ended(execution)
            assert found["status"] == "COMPLETED", found
            assert found["output"] == {f"s{LENGTH}": {"value": value + LENGTH}}, found

    def log(self, process: str) -> str:
        """Return what a process has logged."""
        return (self.mesh.home / "logs" / f"{process}.log").read_text(errors="replace")

    def restarts(self) -> dict[str, int]:
        """Return how often each process was started again."""
        return {p["name"]: int(p["restarts"]) for p in self.mesh.status()["processes"]}


async def complaint(told: list[str], do: Callable[[], Awaitable[Any]]) -> str:
    """Do something that NATS must refuse; return what it says."""
    await do()
    await eventually(lambda: bool(told))
    return told[0]
