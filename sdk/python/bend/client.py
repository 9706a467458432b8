"""The client: start workflows, follow and read executions, store workflows, look at components.

    async with Client() as client:
        execution = await client.run("triage", {"folder": "/data"})
        print(execution.result())

`bend.sync.Client` has the same methods without `await`.
"""

import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from google.protobuf.duration_pb2 import Duration

from bend import payloads
from bend.catalog import Catalog
from bend.channel import RETRY_S, Channel
from bend.control import Control, fresh, statuses_of
from bend.errors import Unreachable
from bend.instance_pools import Pools
from bend.models import Execution, Failure, StartOutcome, TaskRun, WatchEvent
from bend.settings import load_settings
from bend.v1 import engine_service_pb2 as pb
from bend.v1 import engine_service_pb2_grpc
from bend.watching import resumed

WAIT_S_STEP = 60.0
MARGIN_S = 15.0
START_BATCH_MAX = 1000
PAGE_MAX = 1000

Parameters = Mapping[str, Any] | bytes | None


class Client(Catalog, Control, Pools):
    """A connection to a mesh. Use it as `async with`, or call `close`.

    Every call has a deadline. Calls that may be repeated are, with jitter, for `retry_timeout`
    seconds while the service is away; starting may, because each start has a request id.

    Args:
        url, ca_file, cert_file, key_file, token, namespace, home: how to reach the mesh; default:
            BEND_ variables, then the local mesh of `bend up`.
        retry_timeout: seconds; 0: never repeat.

    Raises ConfigurationError when no mesh is known.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        ca_file: str | Path | None = None,
        cert_file: str | Path | None = None,
        key_file: str | Path | None = None,
        token: str | None = None,
        namespace: str | None = None,
        home: str | Path | None = None,
        retry_timeout: float = RETRY_S,
    ) -> None:
        settings = load_settings(
            url=url,
            ca_file=ca_file,
            cert_file=cert_file,
            key_file=key_file,
            token=token,
            namespace=namespace,
            home=home,
        )
        super().__init__(Channel(settings, retry_s=retry_timeout))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection. Executions go on."""
        await self._channel.close()

    def _engine(self) -> Any:
        return self._channel.stub(engine_service_pb2_grpc.EngineServiceStub)

    # Starting

    async def start(
        self,
        workflow: str,
        parameters: Parameters = None,
        *,
        revision: int = 0,
        request_id: str | None = None,
        execution_id: str = "",
        labels: Mapping[str, str] | None = None,
    ) -> Execution:
        """Start an execution; return when it is durable.

        Args:
            workflow: its name.
            parameters: a JSON object as a mapping, or its bytes; at most 1 MiB.
            revision: 0 is the newest.
            request_id: makes a repeat answer the first execution, for 7 days; default: a new one.
            execution_id: chosen by the caller; default: made by the engine.
            labels: added to the workflow's, at most 64.

        Raises NotFound, WrongState, InvalidParameters, AlreadyExists, LimitExceeded, Unreachable.
        """
        start = start_request(workflow, parameters, revision, request_id, execution_id, labels)
        answer = await self._channel.call(
            self._engine().StartExecution, pb.StartExecutionRequest(start=start)
        )
        return Execution.of(answer.execution)

    async def start_many(
        self, starts: Iterable[tuple[str, Parameters] | Mapping[str, Any]]
    ) -> list[StartOutcome]:
        """Start many executions, up to 1,000 a call; each is judged alone.

        Args:
            starts: `(workflow, parameters)`, or mappings with the arguments of `start`.

        Returns the outcomes in order; a refused start is an outcome with an error.
        """
        requests = []
        for one in starts:
            fields: dict[str, Any] = (
                dict(one)
                if isinstance(one, Mapping)
                else {"workflow": one[0], "parameters": one[1]}
            )
            requests.append(
                start_request(
                    fields["workflow"],
                    fields.get("parameters"),
                    fields.get("revision", 0),
                    fields.get("request_id"),
                    fields.get("execution_id", ""),
                    fields.get("labels"),
                )
            )
        outcomes: list[StartOutcome] = []
        for at in range(0, len(requests), START_BATCH_MAX):
            answer = await self._channel.call(
                self._engine().StartExecutions,
                pb.StartExecutionsRequest(starts=requests[at : at + START_BATCH_MAX]),
            )
            outcomes += [
                StartOutcome(
                    one.execution_id,
                    one.created,
                    Failure(one.reason, one.message) if one.code else None,
                )
                for one in answer.outcomes
            ]
        return outcomes

    async def run(
        self,
        workflow: str,
        parameters: Parameters = None,
        *,
        timeout: float | None = None,
        revision: int = 0,
        request_id: str | None = None,
        execution_id: str = "",
        labels: Mapping[str, str] | None = None,
    ) -> Execution:
        """Start an execution and wait for its end; `Execution.result()` gives the output.

        A failed execution is an answer, not an error. Going away cancels nothing.

        Args:
            timeout: seconds to wait at most; then the execution is answered as it stands.
                None: until it ends.
            others: as `start`.

        Raises as `start`.
        """
        start = start_request(workflow, parameters, revision, request_id, execution_id, labels)
        began = time.monotonic()
        step = WAIT_S_STEP if timeout is None else min(WAIT_S_STEP, timeout)
        answer = await self._channel.call(
            self._engine().RunWorkflow,
            pb.RunWorkflowRequest(start=start, wait_timeout=span(step)),
            timeout=step + MARGIN_S,
        )
        execution = Execution.of(answer.execution, answer.tasks)
        if execution.terminal:
            return execution
        left = None if timeout is None else timeout - (time.monotonic() - began)
        if left is not None and left <= 0:
            return execution
        return await self.wait(execution.execution_id, timeout=left)

    # Following

    async def wait(self, execution_id: str, *, timeout: float | None = None) -> Execution:
        """Wait until an execution is terminal.

        Args:
            timeout: seconds at most; then the execution is answered as it stands. None: for ever.

        Raises NotFound, Unreachable.
        """
        began = time.monotonic()
        while True:
            step = WAIT_S_STEP
            if timeout is not None:
                step = max(0.001, min(step, timeout - (time.monotonic() - began)))
            answer = await self._channel.call(
                self._engine().WaitExecution,
                pb.WaitExecutionRequest(execution_id=execution_id, wait_timeout=span(step)),
                timeout=step + MARGIN_S,
            )
            execution = Execution.of(answer.execution)
            if execution.terminal:
                return await self.get(execution_id)
            if timeout is not None and time.monotonic() - began >= timeout:
                return execution

    async def watch(
        self,
        execution_id: str,
        *,
        cursor: str = "",
        states_only: bool = False,
        keepalives: bool = False,
    ) -> AsyncIterator[WatchEvent]:
        """Yield what happens in an execution until it is terminal.

        Survives broken connections: it resumes after the last event's cursor. Partial outputs are
        provisional; a new `run_id` marks a restart of a task, and `gap` says that older ones are
        no longer kept.

        Args:
            cursor: resume after this event. Empty: from the beginning.
            states_only: leave out partial outputs and logs.
            keepalives: yield these too.

        Raises NotFound, InvalidRequest (INVALID_CURSOR), Unreachable when the service stays away.
        """

        def open_stream(last: str) -> Any:
            return self._engine().WatchExecution(
                pb.WatchExecutionRequest(
                    execution_id=execution_id, cursor=last, states_only=states_only
                ),
                metadata=self._channel.settings.metadata(),
            )

        async for answer in resumed(self._channel, open_stream, cursor):
            event = WatchEvent.of(answer.event)
            if event.type != "keepalive" or keepalives:
                yield event
            if event.terminal:
                return
        raise Unreachable(f"the watch of {execution_id} ended before the execution")

    async def watch_many(
        self, execution_ids: Sequence[str], *, payloads: bool = True
    ) -> AsyncIterator[Execution]:
        """Yield executions as they end, those that have ended already first; at most 10,000.

        Survives broken connections; each execution is yielded once.

        Raises NotFound for the first unknown id, Unreachable.
        """
        open_ids = dict.fromkeys(execution_ids)

        def open_stream(_: str) -> Any:
            return self._engine().WatchExecutions(
                pb.WatchExecutionsRequest(execution_ids=list(open_ids), include_payloads=payloads),
                metadata=self._channel.settings.metadata(),
            )

        if not open_ids:
            return
        async for answer in resumed(self._channel, open_stream, "", silent_s=None):
            for one in answer.executions:
                if one.execution_id in open_ids:
                    del open_ids[one.execution_id]
                    yield Execution.of(one)
            if not open_ids:
                return

    # Reading

    async def get(self, execution_id: str, *, tasks: bool = True) -> Execution:
        """Read an execution as last committed, with at most 1,000 of its tasks.

        Raises NotFound, Unreachable.
        """
        answer = await self._channel.call(
            self._engine().GetExecution,
            pb.GetExecutionRequest(execution_id=execution_id, include_tasks=tasks),
        )
        return Execution.of(answer.execution, answer.tasks)

    async def list_executions(
        self,
        *,
        workflow: str = "",
        statuses: Iterable[str] = (),
        label: str = "",
        active: bool = False,
        limit: int = 100,
    ) -> list[Execution]:
        """List executions, newest first, without payloads.

        Args:
            workflow: only of this workflow.
            statuses: only in these: COMPLETED, FAILED …
            label: only with this one, `key=value`.
            active: only those that have not ended; excludes the other filters.
            limit: at most so many.

        Raises InvalidRequest, Unreachable.
        """
        found: list[Execution] = []
        token = ""
        while len(found) < limit:
            size = min(PAGE_MAX, limit - len(found))
            if active:
                answer = await self._channel.call(
                    self._engine().ListActiveExecutions,
                    pb.ListActiveExecutionsRequest(page_size=size, page_token=token),
                )
            else:
                answer = await self._channel.call(
                    self._engine().ListExecutions,
                    pb.ListExecutionsRequest(
                        page_size=size,
                        page_token=token,
                        workflow=workflow,
                        statuses=statuses_of(statuses),
                        label=label,
                    ),
                )
            found += [Execution.of(one) for one in answer.executions]
            token = answer.next_page_token
            if not token:
                break
        return found

    async def list_tasks(self, execution_id: str, *, limit: int = 20_000) -> list[TaskRun]:
        """List the tasks of an execution in the document's order.

        Raises NotFound, Unreachable.
        """
        found: list[TaskRun] = []
        token = ""
        while len(found) < limit:
            answer = await self._channel.call(
                self._engine().ListTaskRuns,
                pb.ListTaskRunsRequest(
                    execution_id=execution_id,
                    page_size=min(PAGE_MAX, limit - len(found)),
                    page_token=token,
                ),
            )
            found += [TaskRun.of(one) for one in answer.tasks]
            token = answer.next_page_token
            if not token:
                break
        return found


def start_request(
    workflow: str,
    parameters: Parameters,
    revision: int,
    request_id: str | None,
    execution_id: str,
    labels: Mapping[str, str] | None,
) -> pb.StartRequest:
    """Make a start request; a request id of its own makes it safe to repeat."""
    if not isinstance(workflow, str):
        raise TypeError(f"name a stored workflow (see deploy()), not a {type(workflow).__name__}")
    body = parameters if isinstance(parameters, bytes) else payloads.dumps(parameters or {})
    return pb.StartRequest(
        workflow=workflow,
        revision=revision,
        parameters=body,
        request_id=fresh(request_id),
        execution_id=execution_id,
        labels=dict(labels or {}),
    )


def span(seconds: float) -> Duration:
    """Return a protobuf duration."""
    nanos = max(1, int(seconds * 1e9))
    return Duration(seconds=nanos // 1_000_000_000, nanos=nanos % 1_000_000_000)
