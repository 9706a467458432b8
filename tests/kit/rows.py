"""Rows for tests of the stores; every value can be given, the rest is plausible."""

from bend_server.core.ids import make_id, public_id
from bend_server.core.model import (
    EventKind,
    EventRow,
    ExecutionStatus,
    FinishRow,
    ResultRow,
    StartRow,
    TaskStatus,
)

T0_US = 1_800_000_000_000_000
DAY_US = 86_400 * 1_000_000


def execution_id(number: int, *, partition: int = 3, at_us: int = T0_US) -> int:
    """Return an internal id; numbers up to 65,535 give distinct ids in rising order."""
    return make_id(at_us, partition, number)


def start_row(
    number: int, *, partition: int = 3, at_us: int = T0_US, **changes: object
) -> StartRow:
    """Make a start of workflow `triage` in namespace `default`."""
    execution = execution_id(number, partition=partition, at_us=at_us)
    row = StartRow(
        id=execution,
        public_id=public_id("triage", execution),
        namespace="default",
        workflow="triage",
        revision=1,
        partition=partition,
        run=1,
        status=int(ExecutionStatus.RUNNING),
        priority=5,
        concurrency_key=None,
        parent=None,
        parent_task=None,
        root=None,
        rerun_of=None,
        request_id=None,
        request_hash=None,
        actor="user/ada",
        input=b'{"n":%d}' % number,
        labels=b"{}",
        trace="",
        started_us=at_us,
        deadline_us=at_us + DAY_US,
    )
    return row._replace(**changes)  # type: ignore[arg-type]


def result_row(execution: int, seq: int, **changes: object) -> ResultRow:
    """Make a completed result; the task's index is the seq."""
    row = ResultRow(
        execution=execution,
        seq=seq,
        run=1,
        task=seq,
        item=-1,
        try_=0,
        iteration=0,
        attempt=1,
        status=int(TaskStatus.COMPLETED),
        output=b'{"seq":%d}' % seq,
        blob=None,
        error=None,
        retry_at_us=None,
        worker="worker-1",
        run_id=(1 << 64) - 1 - seq,
        chunks=0,
        started_us=T0_US + seq,
        finished_us=T0_US + seq + 1,
    )
    return row._replace(**changes)  # type: ignore[arg-type]


def event_row(execution: int, seq: int, **changes: object) -> EventRow:
    """Make a cancel request."""
    row = EventRow(
        execution=execution,
        seq=seq,
        run=1,
        kind=int(EventKind.CANCEL_REQUESTED),
        task=-1,
        item=-1,
        actor="user/ada",
        body=b"{}",
        at_us=T0_US + seq,
    )
    return row._replace(**changes)  # type: ignore[arg-type]


def finish_row(execution: int, seq: int, **changes: object) -> FinishRow:
    """Make the end of a completed run."""
    row = FinishRow(
        execution=execution,
        run=1,
        seq=seq,
        status=int(ExecutionStatus.COMPLETED),
        output=b'{"done":true}',
        blob=None,
        error=None,
        finished_us=T0_US + 1_000,
    )
    return row._replace(**changes)  # type: ignore[arg-type]
