"""EngineService on a real server with the memory twins and a fake engine."""

import contextlib
import hashlib
from collections.abc import AsyncIterator

import orjson
from google.api.httpbody_pb2 import HttpBody

from bend.v1 import engine_service_pb2 as pb
from bend.v1.engine_service_pb2_grpc import EngineServiceStub
from bend_server.core.errors import NotFound
from bend_server.queue.broker import MemoryBroker
from bend_server.queue.memory import MemoryQueue
from bend_server.registry.contracts import Contract, contract_row
from bend_server.rpc.chunk_tails import ChunkTails
from bend_server.rpc.engine_service import Rooms, engine_service
from bend_server.rpc.parameters import Schemas
from bend_server.storage.memory import MemoryDatabase
from bend_server.storage.stores import Stores, memory_stores
from tests.kit.certificates import TestAuthority
from tests.kit.fakes.manual_engine import ManualEngine, Plans
from tests.rpc.door import channel, serving

REST = (
    ("x-bend-peer", "spiffe://bend.local/user/ada"),
    ("x-envoy-original-path", "/v1/something"),
)
USER = REST[:1]
CHAIN = b"""
name: chain
labels: {team: blue}
tasks:
  - id: first
    type: test.echo
    text: "{{input.text}}"
  - id: second
    type: test.echo
    text: "{{first.text}}"
"""


class SystemTime:
    """Real time: deadlines of the tests are real too."""

    def now_us(self) -> int:
        import time

        return time.time_ns() // 1000


class MemoryBlobs:
    """Payloads by key in a dict."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}

    async def put(self, prefix: str, data: bytes) -> str:
        key = f"{prefix}/{hashlib.sha256(data).hexdigest()}"
        self.held[key] = data
        return key

    async def get(self, key: str) -> bytes:
        if key not in self.held:
            raise NotFound(f"no blob {key}")
        return self.held[key]

    async def delete_prefix(self, prefix: str) -> int:
        gone = [key for key in self.held if key.startswith(prefix)]
        for key in gone:
            del self.held[key]
        return len(gone)


class EngineRoom:
    """What a test of EngineService holds in its hands."""

    def __init__(self, stores: Stores, engine: ManualEngine, queue: MemoryQueue) -> None:
        self.stores = stores
        self.engine = engine
        self.queue = queue
        self.blobs = MemoryBlobs()
        self.clock = SystemTime()
        self.plans = Plans(stores)
        self.stub: EngineServiceStub = None  # set when the channel is open

    def rooms(self) -> Rooms:
        return Rooms(
            engine=self.engine,
            reads=self.stores.reads,
            workflows=self.stores.workflows,
            registry=self.stores.registry,
            blobs=self.blobs,
            plans=self.plans,
            chunks=ChunkTails(self.queue),
            clock=self.clock,
            schemas=Schemas(),
        )

    async def component(self, name: str, version: str = "1.0.0", **schemas: bytes) -> None:
        contract = Contract(
            name, version, "", schemas.get("input_schema", b""),
            schemas.get("output_schema", b""), False, False,
        )  # fmt: skip
        await self.stores.registry.put_version(contract_row("default", contract, 1))

    async def create(self, document: bytes = CHAIN, kind: str = "application/yaml"):
        request = pb.CreateWorkflowRequest(document=HttpBody(content_type=kind, data=document))
        return await self.stub.CreateWorkflow(request, metadata=USER, timeout=30)

    async def update(self, name: str, document: bytes):
        body = HttpBody(content_type="application/yaml", data=document)
        request = pb.UpdateWorkflowRequest(name=name, document=body)
        return await self.stub.UpdateWorkflow(request, metadata=USER, timeout=30)

    async def start(self, workflow: str = "chain", **fields: object) -> pb.StartExecutionResponse:
        fields.setdefault("parameters", b'{"text":"hi"}')
        start = pb.StartRequest(workflow=workflow, **fields)
        return await self.stub.StartExecution(
            pb.StartExecutionRequest(start=start), metadata=USER, timeout=30
        )

    async def started(self, **fields: object) -> tuple[str, int]:
        """Start one; return its public and its internal id."""
        public = (await self.start(**fields)).execution.execution_id
        internal = await self.stores.engine.find_public("default", public)
        assert internal is not None
        return public, internal

    async def rest(self, method: str, request: object, *more: tuple[str, str]) -> dict:
        """Call as the transcoder does; return the JSON of the body."""
        answer = await getattr(self.stub, method)(request, metadata=(*REST, *more), timeout=30)
        assert answer.body.content_type == "application/json"
        return orjson.loads(answer.body.data)


@contextlib.asynccontextmanager
async def engine_room(
    authority: TestAuthority, *, chain: bool = True, stem: str = "gateway"
) -> AsyncIterator[EngineRoom]:
    """Serve EngineService; with the workflow `chain` unless a test wants none."""
    clock = SystemTime()
    stores = memory_stores(MemoryDatabase(clock))
    engine = ManualEngine(stores, clock)
    await engine.open()
    queue = MemoryQueue(MemoryBroker())
    room = EngineRoom(stores, engine, queue)
    async with (
        serving(authority, [engine_service(room.rooms())]) as server,
        channel(authority, server.port, stem) as target,
    ):
        room.stub = EngineServiceStub(target)
        await room.component("test.echo")
        if chain:
            await room.create()
        yield room
    await queue.close()


def body(content: object) -> HttpBody:
    """Return a REST body."""
    data = content if isinstance(content, bytes) else orjson.dumps(content)
    return HttpBody(content_type="application/json", data=data)
