"""Starts: resolve the revision, check the parameters, hand over to the engine; run and wait."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from bend.v1 import engine_service_pb2 as pb
from bend_server.core.errors import Conflict, DomainError, NotFound
from bend_server.core.model import ExecutionStatus
from bend_server.core.plan import Plan
from bend_server.ports.engine import Ended, StartCommand, StartOutcome
from bend_server.ports.store import ExecutionSummary
from bend_server.rpc import errors, messages, rest_json, start_requests
from bend_server.rpc.engine_service.call import Call, call_of, wait_seconds
from bend_server.rpc.engine_service.outputs import with_outputs
from bend_server.rpc.engine_service.reads import execution_tasks, task_messages
from bend_server.rpc.rooms import OUTPUT_BYTES_MAX, Rooms

RESOLVE_TRIES = 3
CURRENT_MAX = 4096
RECENT_MAX = 20_000


class Recent(NamedTuple):
    """An execution that this process started: enough to find it without asking SQL."""

    execution: int
    workflow: str
    revision: int
    started_us: int


class Starter:
    """Starts executions for every RPC that does.

    The newest revision of a workflow is remembered; the start statement itself checks that it
    still is the newest, and when it is not, the start is resolved again.
    """

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self._current: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._labels: OrderedDict[tuple[str, str, int], bytes] = OrderedDict()
        self._recent: OrderedDict[tuple[str, str], Recent] = OrderedDict()

    def forget(self, namespace: str, workflow: str) -> None:
        """Resolve a workflow anew at its next start."""
        self._current.pop((namespace, workflow), None)

    def recent(self, namespace: str, public_id: str) -> Recent | None:
        """Return what is known of an execution that was started here lately."""
        return self._recent.get((namespace, public_id))

    async def start(
        self, call: Call, starts: Sequence[pb.StartRequest], *, rerun_of: int = 0
    ) -> list[tuple[StartCommand | None, StartOutcome]]:
        """Start many, each judged alone; answer in order with the commands that were given.

        `rerun_of`: internal id of the execution that they repeat; 0: none.
        """
        answers: list[tuple[StartCommand | None, StartOutcome] | None] = [None] * len(starts)
        left = list(range(len(starts)))
        for attempt in range(RESOLVE_TRIES):
            commands: list[StartCommand] = []
            places: list[int] = []
            for at in left:
                try:
                    commands.append(await self._command(call, starts[at], rerun_of))
                    places.append(at)
                except DomainError as error:
                    answers[at] = (None, _refused(error))
            outcomes = await self._rooms.engine.start_executions(commands) if commands else []
            left = []
            for at, command, outcome in zip(places, commands, outcomes, strict=True):
                if isinstance(outcome.error, Conflict) and attempt + 1 < RESOLVE_TRIES:
                    self.forget(call.namespace, command.workflow)
                    left.append(at)
                    continue
                answers[at] = (command, outcome)
                if outcome.error is None:
                    self._remember(command, outcome)
            if not left:
                break
        return [answer for answer in answers if answer is not None]

    def _remember(self, command: StartCommand, outcome: StartOutcome) -> None:
        recent = self._recent
        recent[command.namespace, outcome.public_id] = Recent(
            outcome.execution, command.workflow, command.revision, outcome.started_us
        )
        if len(recent) > RECENT_MAX:
            recent.popitem(last=False)

    async def _command(self, call: Call, start: pb.StartRequest, rerun_of: int) -> StartCommand:
        start_requests.check_texts(start)
        namespace, workflow, revision = call.namespace, start.workflow, start.revision
        current = not revision
        if current:
            revision = self._current.get((namespace, workflow)) or await self._newest(
                namespace, workflow
            )
        rooms = self._rooms
        plan = rooms.plans.known(namespace, workflow, revision)
        if plan is None:
            plan = await rooms.plans.plan(namespace, workflow, revision)
        parameters = rooms.schemas.checked(plan, start.parameters)
        request_id = start.request_id
        return StartCommand(
            namespace,
            workflow,
            revision,
            current,
            parameters,
            self._merged(plan, start),
            request_id,
            start_requests.content_hash(start) if request_id else None,
            start.execution_id,
            call.peer.subject,
            call.trace,
            rerun_of,
        )

    async def _newest(self, namespace: str, workflow: str) -> int:
        found = await self._rooms.reads.workflow(namespace, workflow)
        if found is None:
            raise NotFound(
                f"no workflow {workflow!r}", reason="WORKFLOW_NOT_FOUND", workflow=workflow
            )
        self._current[namespace, workflow] = found.revision
        if len(self._current) > CURRENT_MAX:
            self._current.popitem(last=False)
        return found.revision

    def _merged(self, plan: Plan, start: pb.StartRequest) -> bytes:
        if start.labels:
            return orjson.dumps({**plan.labels, **start.labels})
        key = (plan.namespace, plan.workflow, plan.revision)
        kept = self._labels.get(key)
        if kept is None:
            kept = self._labels[key] = orjson.dumps(dict(plan.labels))
            if len(self._labels) > CURRENT_MAX:
                self._labels.popitem(last=False)
        return kept


def _refused(error: DomainError) -> StartOutcome:
    return StartOutcome(0, "", False, 0, error)


class StartRpcs:
    """RunWorkflow, StartExecution, StartExecutions."""

    _rooms: Rooms
    _starter: Starter

    async def StartExecution(self, request: pb.StartExecutionRequest, context: Any) -> Any:
        call = call_of(context)
        start = request.start
        if request.HasField("body"):
            start = start_requests.start_from_body(request.body)
        command, outcome = (await self._starter.start(call, [start]))[0]
        if outcome.error is not None:
            raise outcome.error
        summary = await self._begun(call, command, outcome)
        now_us = self._rooms.clock.now_us()
        if not call.rest:
            return pb.StartExecutionResponse(
                execution=messages.execution_message(summary, now_us), created=outcome.created
            )
        shown = rest_json.execution(summary, now_us, payloads=False)
        return pb.StartExecutionResponse(body=rest_json.body({**shown, "created": outcome.created}))

    async def StartExecutions(self, request: pb.StartExecutionsRequest, context: Any) -> Any:
        answers = await self._starter.start(call_of(context), request.starts)
        response = pb.StartExecutionsResponse()
        add = response.outcomes.add
        for _, outcome in answers:
            error = outcome.error
            if error is None:
                add(execution_id=outcome.public_id, created=outcome.created)
            else:
                add(
                    code=errors.code_of(error).value[0],
                    reason=error.reason,
                    message=error.message[: errors.MESSAGE_CHARS_MAX],
                )
        return response

    async def RunWorkflow(self, request: pb.RunWorkflowRequest, context: Any) -> Any:
        call = call_of(context)
        start, wanted = request.start, request.wait_timeout
        if request.HasField("body"):
            start, wanted = start_requests.run_from_body(request.body)
        wait_s = wait_seconds(wanted, context)
        command, outcome = (await self._starter.start(call, [start]))[0]
        if outcome.error is not None:
            raise outcome.error
        ended = await self._rooms.engine.wait(outcome.execution, wait_s)
        summary = await self._ended(call, command, outcome, ended)
        summary = await self._rooms.with_output(summary)
        left = OUTPUT_BYTES_MAX - len(summary.output or b"")
        every = await execution_tasks(self._rooms, summary)
        tasks = await with_outputs(self._rooms, every, every, left)
        now_us = self._rooms.clock.now_us()
        if call.rest:
            return pb.RunWorkflowResponse(
                body=rest_json.body(rest_json.run(summary, tasks, now_us))
            )
        return pb.RunWorkflowResponse(
            execution=messages.execution_message(summary, now_us),
            tasks=await task_messages(tasks),
        )

    async def _begun(
        self, call: Call, command: StartCommand | None, outcome: StartOutcome
    ) -> ExecutionSummary:
        """Return the execution's row; from memory when this call made it.

        One with a concurrency key may wait for a slot: only its row tells.
        """
        if outcome.created and command is not None and not self._keyed(command):
            return _fresh(command, outcome)
        return await self._rooms.execution(call.namespace, outcome.public_id)

    def _keyed(self, command: StartCommand) -> bool:
        plan = self._rooms.plans.known(command.namespace, command.workflow, command.revision)
        return plan is None or plan.concurrency is not None

    async def _ended(
        self,
        call: Call,
        command: StartCommand | None,
        outcome: StartOutcome,
        ended: Ended | None,
    ) -> ExecutionSummary:
        """Return the row after waiting; a committed finish that is at hand saves a read."""
        if (
            outcome.created
            and command is not None
            and not self._keyed(command)
            and ended is not None
            and ended.finish
        ):
            finish = ended.finish
            return _fresh(command, outcome)._replace(
                run=finish.run,
                status=finish.status,
                output=finish.output,
                blob=finish.blob,
                error=finish.error,
                finished_us=finish.finished_us,
            )
        return await self._rooms.execution(call.namespace, outcome.public_id)


def _fresh(command: StartCommand, outcome: StartOutcome) -> ExecutionSummary:
    return ExecutionSummary(
        id=outcome.execution,
        public_id=outcome.public_id,
        namespace=command.namespace,
        workflow=command.workflow,
        revision=command.revision,
        run=1,
        status=ExecutionStatus.RUNNING,
        pause_reason=None,
        labels=command.labels,
        input=command.input,
        output=None,
        blob=None,
        error=None,
        parent=None,
        started_us=outcome.started_us,
        finished_us=None,
    )
