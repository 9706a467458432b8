"""A component service that listens, as a WorkerLink: Execute calls become Connect messages."""

import asyncio
from collections.abc import Awaitable, Callable

import grpc
import grpc.aio
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bend.v1 import component_service_pb2, component_service_pb2_grpc, failure_pb2
from bend.v1 import executor_service_pb2 as pb
from bend_server.executor.listeners import Listener
from bend_server.ports.links import LinkBroken, LinkPeer
from bend_server.rpc.server import MESSAGE_BYTES_MAX, TlsFiles
from bend_server.rpc.tunnel import Tunnel

PROTOCOL_VERSION = 1
DESCRIBE_S = 5.0
BEAT_S_DEFAULT = 5.0
# The executor's own deadlines act first; this one ends calls that nobody answers.
LATE_S = 30.0
# Messages that wait for the room; calls are not read meanwhile.
QUEUED_MAX = 1024
SERVICE = "bend.v1.ComponentService"
_OPTIONS = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    # No pings: servers of other languages cut who pings oftener than each five minutes. The tunnel
    # notices a dead path.
    ("grpc.use_local_subchannel_pool", 1),
]

_log = structlog.get_logger(__name__)


def dialer(
    tls: TlsFiles, trust_domain: str, executor: str
) -> Callable[[Listener], Awaitable["PushLink"]]:
    """Return what dials a listener, for executor.listeners.Listeners."""

    async def dial(listener: Listener) -> PushLink:
        subject = f"/component/{listener.component}"
        who = LinkPeer(f"spiffe://{trust_domain}{subject}", subject, listener.namespace)
        link = PushLink(await Tunnel.open(listener.address, tls, who.spiffe_id), who)
        try:
            await link.describe(executor)
        except BaseException:
            await link.close()
            raise
        return link

    return dial


class PushLink:
    """One connection to a service that listens; implements ports.links.WorkerLink.

    It heartbeats for the service as long as the connection is well. A service that stops serving,
    or whose connection takes no more calls, drains; when its last call has ended the link ends.
    """

    def __init__(self, tunnel: Tunnel, who: LinkPeer) -> None:
        self._tunnel = tunnel
        self._peer = who
        self._channel = grpc.aio.insecure_channel(tunnel.target, _OPTIONS)
        self._stub = component_service_pb2_grpc.ComponentServiceStub(self._channel)
        self._health = health_pb2_grpc.HealthStub(self._channel)
        self._messages: asyncio.Queue[pb.ConnectRequest | None] = asyncio.Queue(QUEUED_MAX)
        self._calls: dict[int, grpc.aio.UnaryStreamCall] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._cancelled: set[int] = set()
        self._beat_s = BEAT_S_DEFAULT
        self._draining = False
        self.instance_id = ""

    @property
    def peer(self) -> LinkPeer:
        """See ports.links.WorkerLink."""
        return self._peer

    async def describe(self, executor: str) -> None:
        """Ask what the service has; its hello is what `receive` returns first.

        Raises LinkBroken.
        """
        request = component_service_pb2.DescribeRequest(
            protocol_version=PROTOCOL_VERSION, executor=executor
        )
        try:
            about = await self._stub.Describe(request, timeout=DESCRIBE_S)
        except grpc.aio.AioRpcError as error:
            raise LinkBroken(f"{error.code().name}: {error.details()}") from error
        if not await self._serving():
            raise LinkBroken("it does not serve now")
        self.instance_id = about.instance_id
        hello = pb.Hello(
            protocol_version=about.protocol_version,
            instance_id=about.instance_id,
            sdk=about.sdk,
            components=about.components,
            credit=about.credit,
        )
        self._messages.put_nowait(pb.ConnectRequest(hello=hello))
        self._spawn(self._watch_channel())
        self._spawn(self._watch_health())

    async def receive(self) -> pb.ConnectRequest | None:
        """See ports.links.WorkerLink."""
        try:
            async with asyncio.timeout(self._beat_s):
                return await self._messages.get()
        except TimeoutError:
            return pb.ConnectRequest(heartbeat=pb.Heartbeat())

    async def send(self, message: pb.ConnectResponse) -> None:
        """See ports.links.WorkerLink."""
        kind = message.WhichOneof("message")
        if kind == "tasks":
            for task in message.tasks.tasks:
                self._begin(task)
        elif kind == "cancels":
            for run_id in message.cancels.run_ids:
                call = self._calls.get(run_id)
                if call is not None:
                    self._cancelled.add(run_id)
                    call.cancel()
        elif kind == "welcome" and message.welcome.heartbeat_interval_ms:
            self._beat_s = message.welcome.heartbeat_interval_ms / 3000

    async def close(self) -> None:
        """End all calls and the connection. Idempotent."""
        for task in list(self._tasks):
            task.cancel()
        await self._channel.close(None)
        self._tunnel.close()

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Calls

    def _begin(self, task: pb.Task) -> None:
        request = component_service_pb2.ExecuteRequest(instance_id=self.instance_id, task=task)
        request.task.ClearField("resume_token")
        timeout_s = task.timeout_ms / 1000 + LATE_S if task.timeout_ms else None
        call = self._stub.Execute(request, timeout=timeout_s)
        self._calls[task.run_id] = call
        self._spawn(self._follow(task.run_id, call))

    async def _follow(self, run_id: int, call: grpc.aio.UnaryStreamCall) -> None:
        """Hand on what a call says, and its end as a result."""
        result: pb.TaskResult | None
        try:
            result = await self._read(run_id, call)
        except grpc.aio.AioRpcError as error:
            result = self._judged(run_id, error)
        except asyncio.CancelledError:
            if run_id not in self._cancelled:
                raise
            result = pb.TaskResult(run_id=run_id, cancelled=pb.Cancelled())
        finally:
            self._calls.pop(run_id, None)
            self._cancelled.discard(run_id)
        if result is None:
            await self._messages.put(None)
            return
        batch = pb.TaskResultBatch(results=[result])
        await self._messages.put(pb.ConnectRequest(results=batch))
        await self._end_when_idle()

    async def _read(self, run_id: int, call: grpc.aio.UnaryStreamCall) -> pb.TaskResult:
        async for answer in call:
            kind = answer.WhichOneof("message")
            # Whatever it wrote there, a call speaks of its own task alone.
            if kind == "result":
                answer.result.run_id = run_id
                result: pb.TaskResult = answer.result
                return result
            if kind == "chunks":
                for chunk in answer.chunks.chunks:
                    chunk.run_id = run_id
                await self._messages.put(pb.ConnectRequest(chunks=answer.chunks))
            elif kind == "heartbeat":
                beat = pb.Heartbeat(run_ids=[run_id])
                await self._messages.put(pb.ConnectRequest(heartbeat=beat))
        return _failed(run_id, "PROTOCOL_VIOLATION", "the call ended without a result")

    @staticmethod
    def _judged(run_id: int, error: grpc.aio.AioRpcError) -> pb.TaskResult | None:
        """Return what an error means for the task; None when it means the whole link."""
        code, text = error.code(), error.details() or ""
        if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.FAILED_PRECONDITION):
            # The process is gone, or is another one: its tasks were lost, not failed.
            _log.warning("push_call_lost", code=code.name, error=text)
            return None
        return _failed(run_id, f"GRPC_{code.name}", text)

    # Health

    async def _serving(self) -> bool:
        request = health_pb2.HealthCheckRequest(service=SERVICE)
        try:
            answer = await self._health.Check(request, timeout=DESCRIBE_S)
        except grpc.aio.AioRpcError:
            # A service need not offer it, or knows nothing of this name.
            return True
        return bool(answer.status != health_pb2.HealthCheckResponse.NOT_SERVING)

    async def _watch_channel(self) -> None:
        state = self._channel.get_state()
        while state is grpc.ChannelConnectivity.READY:
            await self._channel.wait_for_state_change(state)
            state = self._channel.get_state()
        await self._drain()

    async def _watch_health(self) -> None:
        try:
            async for answer in self._health.Watch(health_pb2.HealthCheckRequest(service=SERVICE)):
                if answer.status == health_pb2.HealthCheckResponse.NOT_SERVING:
                    await self._drain()
                    return
        except grpc.aio.AioRpcError as error:
            # A service need not offer it; what breaks the channel is seen by the other watch.
            _log.debug("push_health_ends", code=error.code().name)

    async def _drain(self) -> None:
        if not self._draining:
            self._draining = True
            await self._messages.put(pb.ConnectRequest(drain=pb.Drain()))
            await self._end_when_idle()

    async def _end_when_idle(self) -> None:
        if self._draining and not self._calls:
            await self._messages.put(None)


def _failed(run_id: int, reason: str, text: str) -> pb.TaskResult:
    failure = failure_pb2.Failure(reason=reason, message=text[:2000], retryable=True)
    return pb.TaskResult(run_id=run_id, failure=failure)
