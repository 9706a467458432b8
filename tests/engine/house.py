"""A house for the engine: memory twins, virtual time, and an executor of a few lines."""

import asyncio
import functools
import hashlib
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from bend.internal.v1 import control_pb2, frames_pb2
from bend_server.core.errors import NotFound
from bend_server.core.model import ExecutionStatus
from bend_server.core.plan import Plan
from bend_server.engine import Engine, EngineOptions
from bend_server.ports.engine import StartCommand, StartOutcome
from bend_server.ports.queue import TASKS, Consumer, Delivery, QueueDown
from bend_server.ports.store import EngineStore
from bend_server.queue.memory import MemoryBroker, MemoryQueue
from bend_server.storage.memory import MemoryDatabase, Record
from bend_server.storage.stores import memory_stores
from tests.engine.stores import TroubledStore
from tests.kit.plans import Task, make_plan
from tests.kit.virtual_time import VirtualClock, VirtualLoop, run_virtual

Reply = frames_pb2.QueuedResult | None
Handle = Callable[[frames_pb2.QueuedTask], Reply | Awaitable[Reply]]

STATUS = frames_pb2.QueuedResult.Status


class SeededChance:
    """`ports.clock.Chance` from a seed."""

    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)

    def u64(self) -> int:
        """Return a random number, never 0."""
        return self._random.getrandbits(64) | 1

    def uniform(self, low: float, high: float) -> float:
        """Return a float in [low, high]."""
        return self._random.uniform(low, high)


class MemoryBlobs:
    """`ports.blobs.Blobs` in a dict."""

    def __init__(self) -> None:
        self.data: dict[str, bytes] = {}

    async def put(self, prefix: str, data: bytes) -> str:
        """Store."""
        key = f"{prefix}/{hashlib.sha256(data).hexdigest()}"
        self.data[key] = data
        return key

    async def get(self, key: str) -> bytes:
        """Read."""
        if key not in self.data:
            raise NotFound("no such blob", key=key)
        return self.data[key]

    async def delete_prefix(self, prefix: str) -> int:
        """Delete."""
        gone = [key for key in self.data if key.startswith(prefix)]
        for key in gone:
            del self.data[key]
        return len(gone)


class KnownPlans:
    """`ports.plans.PlanSource` of plans that a test made."""

    def __init__(self) -> None:
        self.plans: dict[tuple[str, str, int], Plan] = {}
        self.faults: dict[str, Exception] = {}

    def known(self, namespace: str, workflow: str, revision: int) -> Plan | None:
        """Return a plan."""
        if workflow in self.faults:
            raise self.faults[workflow]
        return self.plans.get((namespace, workflow, revision))

    async def plan(self, namespace: str, workflow: str, revision: int) -> Plan:
        """Return a plan."""
        plan = self.known(namespace, workflow, revision)
        if plan is None:
            raise NotFound("no such revision", reason="WORKFLOW_NOT_FOUND", workflow=workflow)
        return plan


def completed(task: frames_pb2.QueuedTask, output: bytes = b"1") -> frames_pb2.QueuedResult:
    """Return the result of a task that went well."""
    return result(task, STATUS.COMPLETED, output=output)


def failed(
    task: frames_pb2.QueuedTask, reason: str = "BOOM", *, retryable: bool = False
) -> frames_pb2.QueuedResult:
    """Return the result of a task that failed."""
    one = result(task, STATUS.FAILED)
    one.failure.reason = reason
    one.failure.retryable = retryable
    return one


def result(task: frames_pb2.QueuedTask, status: int, **fields: Any) -> frames_pb2.QueuedResult:
    """Return a result for a task's key."""
    return frames_pb2.QueuedResult(
        execution=task.execution,
        task=task.task,
        item=task.item,
        status=status,
        worker="w1",
        run_id=1,
        started_us=1,
        finished_us=2,
        **{"try": getattr(task, "try")},
        **fields,
    )


def completing(task: frames_pb2.QueuedTask) -> Reply:
    """Do every task well."""
    return completed(task)


class FakeExecutor:
    """Announces one group, takes frames, answers with what `handle` returns.

    `handle` may be a coroutine function; None leaves the task unanswered and its frame unacked.
    Every task it ever saw stands in `seen`.
    """

    def __init__(
        self,
        queue: MemoryQueue,
        handle: Handle = completing,
        *,
        name: str = "x1",
        component: str = "test.echo",
        version: str = "1.0.0",
        credit: int = 256,
        labels: dict[str, str] | None = None,
        long_running: bool = False,
        namespace: str = "default",
    ) -> None:
        self.queue = queue
        self.handle = handle
        self.name = name
        self.component = component
        self.version = version
        self.credit = credit
        self.labels = labels or {}
        self.long_running = long_running
        self.namespace = namespace
        text = f"{namespace}/{component}/{version}/{sorted(self.labels.items())}"
        self.group = hashlib.sha256(text.encode()).hexdigest()[:16]
        self.seen: list[frames_pb2.QueuedTask] = []
        self.frames: list[frames_pb2.TaskFrame] = []
        self.cancelled: list[control_pb2.TaskKey] = []
        self.held: list[str] = []
        self._sequence = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._consumer: Consumer | None = None

    async def start(self) -> "FakeExecutor":
        """Announce and pull."""
        self._consumer = await self.queue.consume(
            TASKS, f"tasks.{self.group}", f"g-{self.group}", 10.0, 60.0
        )
        self._consumer.demand(1_000_000)
        await self.queue.subscribe("executor.cancel", self._hear_cancel)
        await self.announce()
        self._tasks = [
            asyncio.create_task(self._announce_on()),
            asyncio.create_task(self._pull(self._consumer)),
        ]
        return self

    async def stop(self) -> None:
        """Die: no goodbye; what it holds is never acked."""
        for task in self._tasks:
            task.cancel()
        if self._consumer is not None:
            await self._consumer.close()

    async def announce(self, *, leaving: bool = False) -> None:
        """Say what is served here."""
        self._sequence += 1
        message = control_pb2.InstanceAnnouncement(
            executor=self.name, sequence=self._sequence, incarnation=7, leaving=leaving
        )
        message.groups.add(
            group=self.group,
            namespace=self.namespace,
            component=self.component,
            version=self.version,
            labels=self.labels,
            credit=self.credit,
            long_running=self.long_running,
        )
        await self.queue.broadcast("registry.announce", message.SerializeToString())

    async def started(self, task: frames_pb2.QueuedTask, worker: str, slot: int = 0) -> None:
        """Hint that a worker runs a task."""
        notice = control_pb2.StartedNotice(workers=[worker])
        notice.keys.add(
            execution=task.execution,
            task=task.task,
            item=task.item,
            **{"try": getattr(task, "try")},
        )
        await self.queue.broadcast(f"engine.started.{slot}", notice.SerializeToString())

    async def _announce_on(self) -> None:
        while True:
            await asyncio.sleep(3.0)
            await self.announce()

    async def _hear_cancel(self, data: bytes) -> None:
        self.cancelled.extend(control_pb2.CancelNotice.FromString(data).keys)

    async def _pull(self, consumer: Consumer) -> None:
        while True:
            delivery = await consumer.next()
            self._tasks.append(asyncio.create_task(self._run(delivery)))

    async def _run(self, delivery: Delivery) -> None:
        frame = frames_pb2.TaskFrame.FromString(delivery.data)
        self.frames.append(frame)
        results = frames_pb2.ResultFrame(executor=self.name)
        whole = True
        self.held.append(delivery.token)
        for task in frame.tasks:
            self.seen.append(task)
            reply = self.handle(task)
            if isinstance(reply, Awaitable):
                reply = await reply
            if reply is None:
                whole = False
            else:
                results.results.append(reply)
        if results.results:
            try:
                await self.queue.publish(f"results.{frame.slot}", results.SerializeToString())
            except QueueDown:
                return
        if whole:
            self.held.remove(delivery.token)
            self.queue.ack(delivery.token)


class House:
    """One database, one broker; any number of engines and executors."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.clock = VirtualClock(loop)
        self.database = MemoryDatabase(self.clock)
        self.stores = memory_stores(self.database)
        self.broker = MemoryBroker()
        self.blobs = MemoryBlobs()
        self.plans = KnownPlans()
        self.chance = SeededChance()
        self.engines: list[Engine] = []
        self.chance_of = random.Random(1)
        self._grown = 0

    def queue(self, name: str = "client") -> MemoryQueue:
        """Connect one more client."""
        return MemoryQueue(self.broker, name)

    async def engine(
        self, name: str = "e1", *, store: EngineStore | None = None, **options: Any
    ) -> Engine:
        """Start an engine."""
        engine = Engine(
            store or self.stores.engine,
            self.queue(name),
            self.blobs,
            self.clock,
            self.chance,
            self.plans,
            EngineOptions(name=name, **options),
        )
        self.engines.append(engine)
        await engine.start()
        return engine

    async def executor(self, handle: Handle = completing, **options: Any) -> FakeExecutor:
        """Start an executor."""
        return await FakeExecutor(self.queue("executor"), handle, **options).start()

    async def workflow(self, plan: Plan) -> Plan:
        """Make a plan known, to SQL and to the engines."""
        summary, _ = await self.stores.workflows.put_revision(
            plan.namespace,
            plan.workflow,
            document=repr(len(self.plans.plans)).encode(),
            digest=repr(len(self.plans.plans)),
            description="",
            labels=b"{}",
            task_count=len(plan.tasks),
            pins=b"{}",
            plan_format=1,
            now_us=self.clock.now_us(),
            create_only=False,
        )
        assert summary.revision == plan.revision
        self.plans.plans[plan.namespace, plan.workflow, plan.revision] = plan
        return plan

    def record(self, execution: int) -> Record:
        """Return what SQL has."""
        return self.database.executions[execution]

    async def grow(self, stores: list[TroubledStore]) -> None:
        """Start one more engine over a store that can be troubled; at most three run."""
        if len(self.engines) < 3:
            store = TroubledStore(self.stores.engine)
            stores.append(store)
            self._grown += 1
            await self.engine(f"grown{self._grown}", store=store, start_wait_s=1.0)

    async def pause(self, seconds: float) -> None:
        """Let virtual time pass."""
        await asyncio.sleep(seconds)

    async def publish_results(
        self, executor: FakeExecutor, results: list[frames_pb2.QueuedResult], slot: int = 0
    ) -> None:
        """Put results into a lane."""
        frame = frames_pb2.ResultFrame(executor=executor.name, results=results)
        await executor.queue.publish(f"results.{slot}", frame.SerializeToString())

    async def crash(self, engine: Engine) -> None:
        """End an engine as SIGKILL does: no flush, no release; its lease runs out by itself."""
        await self.freeze(engine)
        self.engines.remove(engine)
        assert engine._main is not None
        for task in (engine._main, *engine._lanes.values()):
            task.cancel()
            await asyncio.wait([task])
        await engine._jobs.close()
        lease = engine._live.lease
        if lease is not None:
            self.database.leases[lease.id] = lease._replace(expires_us=0)

    async def freeze(self, engine: Engine) -> None:
        """Cut an engine off from the queue, as SIGSTOP does to its sockets."""
        self._queue_of(engine).disconnect()

    async def thaw(self, engine: Engine) -> None:
        """Let an engine back to the queue."""
        self._queue_of(engine).reconnect()

    async def keep_alive(self, executor: FakeExecutor, seconds: int) -> None:
        """Let time pass while an executor reports progress on all it holds."""
        for _ in range(seconds):
            await asyncio.sleep(1.0)
            for token in executor.held:
                executor.queue.in_progress(token)

    def _queue_of(self, engine: Engine) -> MemoryQueue:
        queue = engine._queue
        assert isinstance(queue, MemoryQueue)
        return queue

    async def close(self) -> None:
        """Stop what still runs."""
        for engine in self.engines:
            await engine.stop()


def command(plan: Plan, *, request_id: str = "", **fields: Any) -> StartCommand:
    """Wish a start."""
    values: dict[str, Any] = {
        "namespace": plan.namespace,
        "workflow": plan.workflow,
        "revision": plan.revision,
        "current": True,
        "input": b"{}",
        "labels": b"{}",
        "request_id": request_id,
        "request_hash": b"h" if request_id else None,
        "execution_id": "",
        "actor": "user/ada",
        "trace": "",
    }
    return StartCommand(**{**values, **fields})


async def begin(engine: Engine, plan: Plan, **fields: Any) -> StartOutcome:
    """Start one execution; it must be accepted."""
    (outcome,) = await engine.start_executions([command(plan, **fields)])
    assert outcome.error is None, outcome.error
    return outcome


async def finish(engine: Engine, execution: int, within_s: float = 3600.0) -> ExecutionStatus:
    """Wait for an execution's end; return its status."""
    ended = await engine.wait(execution, within_s)
    assert ended is not None, f"execution {execution} did not end: {engine.waiting(execution)}"
    if ended.finish is not None:
        return ExecutionStatus(ended.finish.status)
    statuses = await engine._store.statuses([execution])
    return ExecutionStatus(statuses[execution])


async def until(condition: Callable[[], bool], within_s: float = 600.0) -> None:
    """Let (virtual) time pass until a condition holds."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 (time is virtual)
            await asyncio.sleep(0.01)


def housed(
    test: Callable[[House], Coroutine[Any, Any, None]],
) -> Callable[[], None]:
    """Make a coroutine function over a house a test in virtual time."""

    @functools.wraps(test)
    def run() -> None:
        async def main(loop: VirtualLoop) -> None:
            house = House(loop)
            await test(house)
            await house.close()

        run_virtual(main)

    # pytest must not see the parameter of the wrapped function.
    del run.__wrapped__  # type: ignore[attr-defined]
    return run


def fan_out(width: int, *, join: bool = True, workflow: str = "fan") -> Plan:
    """Return `width` tasks side by side, and a join after them."""
    tasks = [Task(id=f"t{i}") for i in range(width)]
    if join:
        tasks.append(Task(id="join", after=[task.id for task in tasks]))
    return make_plan(tasks, workflow=workflow)
