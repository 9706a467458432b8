"""A component service of the simulation: answers as its temper says, and keeps a journal."""

import asyncio
from typing import TYPE_CHECKING

from bend.v1 import component_pb2, executor_service_pb2
from tests.simulation.control import COMPONENT
from tests.simulation.journal import Entry
from tests.simulation.pipes import Broken, Pipe
from tests.simulation.processes import Process
from tests.simulation.workloads import LONG_COMPONENT, VERSION, output_of, unit_of

if TYPE_CHECKING:
    from tests.simulation.world import World

Request = executor_service_pb2.ConnectRequest
Response = executor_service_pb2.ConnectResponse
CONTRACTS = (
    component_pb2.ComponentContract(name=COMPONENT, version=VERSION),
    component_pb2.ComponentContract(name=LONG_COMPONENT, version=VERSION, long_running=True),
)
LONG = 1
"""The long-running component's place in CONTRACTS."""


class Job:
    """One hand-over; a long-running one outlives its stream."""

    __slots__ = ("result", "task", "work")

    def __init__(self, task: executor_service_pb2.Task) -> None:
        self.task = task
        self.work: asyncio.Task[None]
        self.result: executor_service_pb2.TaskResult | None = None


class Service:
    """What one process of a component service does, over all its streams."""

    def __init__(self, world: "World", process: Process) -> None:
        self._world = world
        self._process = process
        self._jobs: dict[int, Job] = {}
        self._up: Pipe[Request] | None = None
        self._credit = world.chance.choice((1, 4, 64))

    async def serve(self, up: Pipe[Request], down: Pipe[Response]) -> None:
        """Serve one stream until it breaks. Long-running tasks go on without one."""
        held = [
            executor_service_pb2.HeldTask(run_id=run_id, resume_token=job.task.resume_token)
            for run_id, job in self._jobs.items()
        ]
        hello = executor_service_pb2.Hello(
            protocol_version=1,
            instance_id=self._process.name,
            sdk="sim",
            components=CONTRACTS,
            credit=self._credit,
            held=held,
        )
        beat: asyncio.Task[None] | None = None
        try:
            up.send(Request(hello=hello))
            while (message := await down.receive()) is not None:
                await self._process.checkpoint("with a message of the executor")
                kind = message.WhichOneof("message")
                if kind == "welcome":
                    self._welcome(message.welcome, up)
                    pause_s = message.welcome.heartbeat_interval_ms / 3000
                    beat = asyncio.ensure_future(self._beat(up, pause_s))
                elif kind == "tasks":
                    for task in message.tasks.tasks:
                        self._take(task)
                elif kind == "cancels":
                    for run_id in message.cancels.run_ids:
                        self._cancel(run_id)
        except Broken:
            pass
        finally:
            self._up = None
            if beat is not None:
                beat.cancel()
            self._drop([r for r, job in self._jobs.items() if job.task.component != LONG])

    def _welcome(self, welcome: executor_service_pb2.Welcome, up: Pipe[Request]) -> None:
        """Go on with what the executor lets us keep, and send what was ready meanwhile."""
        self._up = up
        self._drop([run_id for run_id in self._jobs if run_id not in welcome.kept])
        for job in list(self._jobs.values()):
            if job.result is not None:
                self._answer(job.task.run_id, job.result)

    def _drop(self, run_ids: list[int]) -> None:
        for run_id in run_ids:
            self._jobs.pop(run_id).work.cancel()

    async def _beat(self, up: Pipe[Request], pause_s: float) -> None:
        try:
            while True:
                await asyncio.sleep(pause_s)
                up.send(Request(heartbeat=executor_service_pb2.Heartbeat()))
        except Broken:
            pass

    def _take(self, task: executor_service_pb2.Task) -> None:
        self._world.journal.took(task)
        job = self._jobs[task.run_id] = Job(task)
        job.work = asyncio.ensure_future(self._work(job))

    def _cancel(self, run_id: int) -> None:
        job = self._jobs.get(run_id)
        if job is None or job.result is not None:
            return
        job.work.cancel()
        cancelled = executor_service_pb2.Cancelled()
        self._answer(run_id, executor_service_pb2.TaskResult(run_id=run_id, cancelled=cancelled))

    async def _work(self, job: Job) -> None:
        task = job.task
        unit = unit_of(task.task, task.item - 1, task.iteration)
        answer = self._world.temper.answer(task.execution_id, unit, task.attempt)
        if answer.kind == "hang":
            await self._world.loop.create_future()
        await asyncio.sleep(answer.after_s + (10.0 if task.component == LONG else 0.0))
        await self._process.checkpoint("before a result")
        result = executor_service_pb2.TaskResult(run_id=task.run_id, duration_us=1)
        output = None
        if answer.kind == "complete":
            output = output_of(task.execution_id, unit, task.attempt, task.run_id)
            result.output = output
        else:
            result.failure.reason = answer.kind.upper()
            result.failure.retryable = answer.kind == "retryable"
        reason = result.failure.reason
        entry = Entry(task.execution_id, unit, task.attempt, output, reason)
        self._world.journal.answered(task.run_id, entry)
        self._answer(task.run_id, result)

    def _answer(self, run_id: int, result: executor_service_pb2.TaskResult) -> None:
        """Send a result; without a stream, keep it for the next one."""
        job = self._jobs.get(run_id)
        if job is None:
            return
        job.result = result
        if self._up is None:
            return
        batch = executor_service_pb2.TaskResultBatch(results=[result])
        try:
            self._up.send(Request(results=batch))
        except Broken:
            return
        del self._jobs[run_id]
