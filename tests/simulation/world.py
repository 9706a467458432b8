"""One seed: a mesh of real engines and executors, workers, clients, chaos, healing, checks."""

import asyncio
import contextlib
import traceback
from collections.abc import Coroutine
from dataclasses import dataclass
from random import Random
from typing import Any

from bend_server.core.errors import Conflict, DependencyDown, NotFound, WrongState
from bend_server.engine import Engine
from bend_server.engine.options import EngineOptions
from bend_server.ports.engine import StartCommand
from bend_server.ports.queue import RESULTS
from bend_server.queue.broker import MemoryBroker
from bend_server.storage.memory import MemoryDatabase
from tests.kit.virtual_time import VirtualClock, VirtualLoop
from tests.simulation.connections import SimQueue, SimStore
from tests.simulation.hosts import Host, SeededChance, SimBlobs
from tests.simulation.journal import Journal, Violation
from tests.simulation.processes import Process, task_factory
from tests.simulation.weather import Climate, SeededWeather
from tests.simulation.workers import ExecutorHost, WorkerLife
from tests.simulation.workloads import NAMESPACE, PLANS, SimPlans, Temper, summaries

HEAL_S_MAX = 1500.0
REST_S = 45.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    """Faults that tests plant into the mesh, to see that they are found."""

    ack_before_commit: bool = False
    without_fence: bool = False


class ObservedBroker(MemoryBroker):
    """A broker that shows the journal what is acked."""

    journal: Journal
    alarm: Any

    def settle(self, token: str, verdict: str, delay_s: float) -> None:
        """See queue.broker."""
        name, created, _, sequence, _ = token.split("/")
        stream = self.streams[name]
        if verdict == "ack" and name == RESULTS and stream.created_us == int(created):
            message = stream.messages.get(int(sequence))
            if message is not None:
                others = [
                    other[1] for key, other in stream.messages.items() if key != int(sequence)
                ]
                try:
                    self.journal.acked(message[1], others)
                except Violation as violation:
                    self.alarm(violation)
        super().settle(token, verdict, delay_s)


class World:
    """See the module.

    Args:
        seed: everything random follows from it.
        plant: faults on purpose.
    """

    def __init__(self, loop: VirtualLoop, seed: int, plant: Plant) -> None:
        loop.set_task_factory(task_factory)
        self.loop = loop
        self.seed = seed
        self.plant = plant
        self.chance = Random(seed)
        self.climate = Climate.of(self.chance)
        self.clock = VirtualClock(loop)
        self.database = MemoryDatabase(self.clock)
        self.database.workflows.update(summaries())
        self.broker = ObservedBroker(self.clock.now_us, SeededWeather(self.chance, self.climate))
        self.journal = self.broker.journal = Journal(self.database)
        self.blobs = SimBlobs()
        self.temper = Temper(seed, self.chance)
        self.story: list[str] = []
        self.over = False
        self.violation: asyncio.Future[None] = loop.create_future()
        self.broker.alarm = self.alarm
        self.queues: list[SimQueue] = []
        self.engine_of: dict[str, Engine] = {}
        self.engines = [self._host(f"engine{i}", self._run_engine) for i in self._some(1, 1, 2)]
        self.executors = [ExecutorHost(self, f"executor{i}") for i in self._some(1, 1, 2)]
        self.workers = [WorkerLife(self, f"worker{i}") for i in self._some(1, 2, 3)]
        self.requests = self.chance.choice((3, 6, 12))
        self.open_requests = self.requests

    def _some(self, *counts: int) -> range:
        return range(self.chance.choice(counts))

    def _host(self, name: str, boot: Any) -> Host:
        async def run(process: Process) -> None:
            await boot(name, process)

        return Host(name, self.chance, self.deadliness, run, self.tell)

    def deadliness(self) -> float:
        """Return the probability to die at a port."""
        return 0.0 if self.climate.calm else self.climate.deadliness

    def tell(self, line: str) -> None:
        """Add a line to the story, until it is over."""
        if self.over:
            return
        self.story.append(f"{self.loop.time():9.3f} {line}")

    def alarm(self, violation: Violation) -> None:
        """End the seed: a promise is broken."""
        if not self.violation.done():
            self.tell(f"VIOLATION: {violation}")
            self.violation.set_exception(violation)

    def queue(self, process: Process, *, eager: bool = False) -> SimQueue:
        """Return a client of the broker for a process."""
        queue = SimQueue(self.broker, process, eager=eager)
        self.queues.append(queue)
        return queue

    async def _run_engine(self, name: str, process: Process) -> None:
        store = SimStore(
            self.database,
            process,
            self.chance,
            self.climate,
            self._committed,
            fenced=not self.plant.without_fence,
        )
        engine = Engine(
            store,
            self.queue(process, eager=self.plant.ack_before_commit),
            self.blobs,
            self.clock,
            SeededChance(self.chance),
            SimPlans(),
            EngineOptions(name=process.name),
        )
        await engine.start()
        self.engine_of[name] = engine
        self.tell(f"{process.name} is up")
        while engine.failed is None:  # noqa: ASYNC110 (as a composition root looks, now and then)
            await asyncio.sleep(0.5)
        fault = "".join(traceback.format_exception(engine.failed))
        self.alarm(Violation(f"{process.name} has failed: {engine.failed!r}\n{fault}"))

    def _committed(self, lease: Any, batch: Any) -> None:
        try:
            self.journal.committed(lease, batch)
        except Violation as violation:
            self.alarm(violation)

    async def run(self) -> None:
        """Run the seed. Raises Violation."""
        hosts = [*self.engines, *(e.host for e in self.executors), *(w.host for w in self.workers)]
        for host in hosts:
            host.up()
        work = [asyncio.ensure_future(self._client(f"r{i}")) for i in range(self.requests)]
        work.append(asyncio.ensure_future(self._chaos(hosts)))
        for task in work:
            task.add_done_callback(self._worked)
        heart = asyncio.ensure_future(self._heal_and_check())
        try:
            await asyncio.wait([heart, self.violation], return_when=asyncio.FIRST_COMPLETED)
            (self.violation if self.violation.done() else heart).result()
        finally:
            self.over = True
            for task in (heart, *work):
                task.cancel()

    def _worked(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and task.exception() is not None and not self.violation.done():
            self.violation.set_exception(task.exception() or Violation("unknown"))

    async def _chaos(self, hosts: list[Host]) -> None:
        end = self.loop.time() + self.chance.choice((5.0, 20.0, 60.0))
        pace_s = self.chance.choice((0.5, 3.0, 15.0, 1000.0))
        while True:
            wait_s = self.chance.expovariate(1 / pace_s)
            if self.loop.time() + wait_s >= end:
                await asyncio.sleep(end - self.loop.time())
                break
            await asyncio.sleep(wait_s)
            dice = self.chance.random()
            if dice < 0.7:
                self.chance.choice(hosts).kill("SIGKILL")
            elif dice < 0.8:
                self.tell("the queue loses everything")
                self.broker.wipe()
            else:
                self._cut_off()
        self.climate.calm = True
        self.tell("all is well again")

    def _cut_off(self) -> None:
        queues = [queue for queue in self.queues if queue.connected]
        if queues:
            queue = self.chance.choice(queues)
            self.tell(f"{queue.name} loses the queue")
            queue.disconnect()
            self.loop.call_later(self.chance.uniform(0.1, 20.0), queue.come_back)

    async def _heal_and_check(self) -> None:
        while not self.climate.calm or self.open_requests:
            await asyncio.sleep(0.5)
            self._check_patience()
        while any(record.finish is None for record in self.database.executions.values()):
            await asyncio.sleep(0.5)
            self._check_patience()
        self.tell("all executions have ended")
        before = {key: record.stored() for key, record in self.database.executions.items()}
        await asyncio.sleep(REST_S)
        after = {key: record.stored() for key, record in self.database.executions.items()}
        if before != after:
            raise Violation("something changed after the end")
        self.journal.check()
        left = list(self.broker.streams[RESULTS].messages)
        if left:
            raise Violation(f"results stay in the queue for ever: {left}")

    def _check_patience(self) -> None:
        if self.loop.time() > HEAL_S_MAX:
            stuck = [
                record.start.public_id
                for record in self.database.executions.values()
                if record.finish is None
            ]
            raise Violation(f"not ended: {stuck}; {self.open_requests} requests not answered")

    async def _client(self, request: str) -> None:
        """Start one execution, whatever it takes; perhaps cancel it later."""
        chance = self.chance
        await asyncio.sleep(chance.uniform(0.0, 20.0))
        workflow = chance.choice(list(PLANS))
        command = StartCommand(
            namespace=NAMESPACE,
            workflow=workflow,
            revision=1,
            current=True,
            input=b'"' + request.encode() + b'"',
            labels=b"{}",
            request_id=request,
            request_hash=b"h",
            execution_id="",
            actor="ada",
            trace="",
        )
        while True:
            outcomes = await self._ask(lambda engine: engine.start_executions([command]))
            if outcomes is not None and outcomes[0].error is None:
                break
            await asyncio.sleep(0.5)
        execution = outcomes[0].execution
        self.journal.accepted(request, execution)
        self.tell(f"{request} is {outcomes[0].public_id}")
        self.open_requests -= 1
        if chance.random() < 0.15:
            await asyncio.sleep(chance.uniform(0.0, 5.0))
            await self._cancel(request, execution)

    async def _cancel(self, request: str, execution: int) -> None:
        for _ in range(200):
            try:
                status = await self._ask(
                    lambda engine: engine.cancel(
                        execution, reason="enough", actor="ada", request_id=f"c-{request}"
                    )
                )
            except WrongState:
                return
            except NotFound as error:
                raise Violation(f"{request} was answered and is not known") from error
            if status is not None:
                self.tell(f"{request} is to be cancelled")
                return
            await asyncio.sleep(0.5)

    async def _ask(self, call: Any) -> Any:
        """Call one engine as rpc would; None when it cannot answer."""
        up = [host for host in self.engines if host.alive and host.name in self.engine_of]
        if not up:
            return None
        host = self.chance.choice(up)
        process = host.process
        assert process is not None
        task = process.spawn(_awaited(call(self.engine_of[host.name])))
        await asyncio.wait({task}, timeout=8.0)
        if not task.done() or task.cancelled():
            task.cancel()
            return None
        try:
            return task.result()
        except (DependencyDown, Conflict):  # rpc says UNAVAILABLE or ABORTED: retry
            return None


async def _awaited(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return await coroutine


@contextlib.contextmanager
def quiet() -> Any:
    """Silence the logs of the system under test: they are part of no check."""
    import structlog

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    try:
        yield
    finally:
        structlog.reset_defaults()
