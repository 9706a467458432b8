"""One seed: a mesh of real engines and executors, workers, clients, chaos, healing, checks."""

import asyncio
import traceback
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Any

from bend_server.engine import Engine
from bend_server.engine.options import EngineOptions
from bend_server.ports.queue import RESULTS
from bend_server.queue.broker import MemoryBroker
from bend_server.storage.memory import MemoryDatabase
from tests.kit.virtual_time import VirtualClock, VirtualLoop
from tests.simulation.chaos import Chaos
from tests.simulation.clients import Client
from tests.simulation.connections import SimQueue, SimStore
from tests.simulation.hosts import Host, SeededChance, SimBlobs
from tests.simulation.journal import Journal, Violation
from tests.simulation.processes import Process, task_factory
from tests.simulation.weather import Climate, SeededWeather
from tests.simulation.workers import ExecutorHost, WorkerLife
from tests.simulation.workloads import SimPlans, Temper, summaries

HEAL_S_MAX = 2000.0
REST_S = 45.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    """What tests do on purpose: faults that must be found, and kinds of chaos to look at.

    Attributes:
        ack_before_commit: results are acked when they arrive.
        without_fence: commits are applied whoever owns the partitions.
        only: the mesh is struck in these ways alone; empty: in all.
        stalls: commits hang for longer than a lease lives, often.
    """

    ack_before_commit: bool = False
    without_fence: bool = False
    only: tuple[str, ...] = ()
    stalls: bool = False


class ObservedBroker(MemoryBroker):
    """A broker that shows the journal which results are acked."""

    journal: Journal

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
                self.journal.acked(message[1], others)
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
        self.plant = plant
        self.chance = Random(seed)
        self.climate = Climate.of(self.chance)
        if plant.stalls:
            self.climate.sql_stalled = 0.1
        self.clock = VirtualClock(loop)
        self.database = MemoryDatabase(self.clock)
        self.database.workflows.update(summaries())
        self.broker = ObservedBroker(self.clock.now_us, SeededWeather(self.chance, self.climate))
        self.blobs = SimBlobs(self.chance, self.climate)
        self.journal = Journal(self.database, self.blobs, self.alarm)
        self.broker.journal = self.journal
        self.temper = Temper(seed, self.chance)
        self.story: list[str] = []
        self.over = False
        self.violation: asyncio.Future[None] = loop.create_future()
        self.queues: list[SimQueue] = []
        self.engine_of: dict[str, Engine] = {}
        self.engines = [self._engine(f"engine{i}") for i in self._some(1, 1, 2)]
        self.executors = [ExecutorHost(self, f"executor{i}") for i in self._some(1, 1, 2)]
        self.workers = [WorkerLife(self, f"worker{i}") for i in self._some(1, 2, 3)]
        self.clients = [Client(self, f"r{i}") for i in self._some(3, 6, 12)]
        self.open_requests = len(self.clients)

    def _some(self, *counts: int) -> range:
        return range(self.chance.choice(counts))

    def host(
        self,
        name: str,
        boot: Callable[[Process], Coroutine[Any, Any, None]],
        leave: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> Host:
        """Return a machine of this world; `leave` is its planned stop."""
        return Host(name, self.chance, self._deadliness, boot, leave, self.tell)

    def _deadliness(self) -> float:
        return 0.0 if self.climate.calm else self.climate.deadliness

    def tell(self, line: str) -> None:
        """Add a line to the story, until it is over."""
        if not self.over:
            self.story.append(f"{self.loop.time():9.3f} {line}")

    def alarm(self, violation: BaseException) -> None:
        """End the seed: a promise is broken."""
        if not self.violation.done() and not self.over:
            self.tell(f"VIOLATION: {violation}")
            self.violation.set_exception(violation)

    def queue(self, process: Process, *, eager: bool = False) -> SimQueue:
        """Return a client of the broker for a process."""
        queue = SimQueue(self.broker, process, eager=eager)
        self.queues.append(queue)
        return queue

    def _engine(self, name: str) -> Host:
        async def boot(process: Process) -> None:
            await self._run_engine(name, process)

        async def leave() -> None:
            if name in self.engine_of:
                await self.engine_of[name].stop()

        return self.host(name, boot, leave)

    async def _run_engine(self, name: str, process: Process) -> None:
        fenced = not self.plant.without_fence
        store = SimStore(
            self.database, process, self.chance, self.climate, self.journal.committed, fenced=fenced
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

    async def run(self) -> None:
        """Run the seed. Raises Violation."""
        hosts = [*self.engines, *(e.host for e in self.executors), *(w.host for w in self.workers)]
        for host in hosts:
            host.up()
        work = [asyncio.ensure_future(client.run()) for client in self.clients]
        work.append(asyncio.ensure_future(Chaos(self, hosts, self.plant.only).run()))
        for task in work:
            task.add_done_callback(self._worked)
        heart = asyncio.ensure_future(self._heal_and_check(work))
        try:
            await asyncio.wait([heart, self.violation], return_when=asyncio.FIRST_COMPLETED)
            (self.violation if self.violation.done() else heart).result()
        finally:
            self.over = True
            for task in (heart, *work):
                task.cancel()

    def _worked(self, task: "asyncio.Task[None]") -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.alarm(error)

    async def _heal_and_check(self, work: list["asyncio.Task[None]"]) -> None:
        while not self.climate.calm or self.open_requests or self._unfinished():
            await asyncio.sleep(0.5)
            self._check_patience()
        self.tell("all executions have ended")
        with suppress(TimeoutError):
            async with asyncio.timeout(REST_S):
                await asyncio.wait(work)
        if any(not task.done() for task in work):
            raise Violation("a client was not told the end of its execution")
        before = {key: record.stored() for key, record in self.database.executions.items()}
        await asyncio.sleep(REST_S)
        after = {key: record.stored() for key, record in self.database.executions.items()}
        if before != after:
            raise Violation("something changed after the end")
        self.journal.check()
        left = [message[0] for message in self.broker.streams[RESULTS].messages.values()]
        if left:
            raise Violation(f"results stay in the queue for ever: {left}")

    def _unfinished(self) -> list[str]:
        return [
            record.start.public_id
            for record in self.database.executions.values()
            if record.finish is None
        ]

    def _check_patience(self) -> None:
        if self.loop.time() > HEAL_S_MAX:
            raise Violation(
                f"not ended: {self._unfinished()}; {self.open_requests} requests not answered"
            )
