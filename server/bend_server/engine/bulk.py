"""Bulk jobs: cancel or retry every execution that a filter names, a page at a time.

A job is a row; the owner of its partition works on it. Progress is stored after every page under
the cursor before it, so that two owners at a takeover do not both count a page.
"""

import asyncio

import orjson
import structlog

from bend.internal.v1 import control_pb2
from bend_server.core.errors import DependencyDown, DomainError, InvalidInput
from bend_server.core.ids import make_id
from bend_server.core.model import EXECUTION_TERMINAL, ExecutionStatus
from bend_server.engine.commands import Commands
from bend_server.engine.live import Live
from bend_server.engine.options import Counters
from bend_server.ports.clock import Chance, Clock
from bend_server.ports.control import BULK_DONE, BULK_RUNNING, BulkRow, ExecutionFilter
from bend_server.ports.engine import BulkCommand
from bend_server.ports.store import EngineStore

log = structlog.get_logger()

CANCEL, RETRY = 1, 2
PAGE = 100
COUNT_PAGE = 1000
JOBS_MAX = 16
SAMPLE = 10
LOOK_S = 5.0
AT_ONCE = 10

_LIVE = tuple(int(one) for one in ExecutionStatus if one not in EXECUTION_TERMINAL)
_ENDED_BADLY = (
    int(ExecutionStatus.FAILED),
    int(ExecutionStatus.CANCELLED),
    int(ExecutionStatus.TIMED_OUT),
)
ALLOWED = {CANCEL: _LIVE, RETRY: (*_ENDED_BADLY, int(ExecutionStatus.PAUSED))}
DEFAULTS = {CANCEL: _LIVE, RETRY: _ENDED_BADLY}


class Bulks:
    """Stores bulk jobs and works on those of its partitions."""

    def __init__(
        self,
        store: EngineStore,
        clock: Clock,
        chance: Chance,
        live: Live,
        commands: Commands,
        counters: Counters,
    ) -> None:
        self._store = store
        self._clock = clock
        self._live = live
        self._commands = commands
        self._counters = counters
        self._counter = chance.u64() & 0xFFFF
        self._new = asyncio.Event()

    async def put(self, command: BulkCommand) -> BulkRow:
        """Store a job; see `EngineUseCases.bulk`."""
        statuses = command.filter.statuses or DEFAULTS.get(command.action, ())
        if command.action not in ALLOWED or not set(statuses) <= set(ALLOWED[command.action]):
            names = [ExecutionStatus(one).name for one in ALLOWED.get(command.action, ())]
            raise InvalidInput(f"the action takes executions in {', '.join(names)}")
        if not self._live.order:
            raise DependencyDown("this engine owns no partition now")
        now_us = self._clock.now_us()
        self._counter += 1
        partition = self._live.order[self._counter % len(self._live.order)]
        before_us = command.filter.started_before_us
        row = BulkRow(
            id=make_id(now_us, partition, self._counter),
            namespace=command.namespace,
            partition=partition,
            action=command.action,
            filter=_filter_json(
                command.filter._replace(
                    statuses=tuple(int(one) for one in statuses),
                    started_before_us=min(now_us + 1, before_us or now_us + 1),
                )
            ),
            reason=command.reason,
            actor=command.actor,
            dry_run=int(command.dry_run),
            state=BULK_RUNNING,
            matched=0,
            done=0,
            refused=0,
            cursor=b"",
            sample=b"[]",
            request_id=command.request_id or None,
            created_us=now_us,
            updated_us=now_us,
        )
        if command.dry_run:
            row = await self._count(row)
        stored, _ = await self._store.put_bulk(row)
        self._new.set()
        return stored

    async def run(self) -> None:
        """Work on jobs for ever."""
        while True:
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._new.wait()
            except TimeoutError:
                pass
            self._new.clear()
            if not self._live.order:
                continue
            try:
                for row in await self._store.open_bulks(self._live.order, JOBS_MAX):
                    await self._work(row)
            except DomainError as error:
                log.warning("bulk_job_stands_still", reason=error.reason)

    async def _count(self, row: BulkRow) -> BulkRow:
        """Count what a job would do, and what would refuse."""
        wanted = _filter_of(row.filter)
        sample: list[str] = []
        matched = refused = after = 0
        while True:
            page = await self._store.matching(row.namespace, wanted, after, COUNT_PAGE)
            matched += len(page)
            refusing: set[int] = set()
            if row.action == RETRY and page:
                refusing = await self._store.unretryable([one for one, _ in page])
            refused += len(refusing)
            changed = [name for one, name in page if one not in refusing]
            sample += changed[: SAMPLE - len(sample)]
            if len(page) < COUNT_PAGE:
                break
            after = page[-1][0]
        return row._replace(
            matched=matched, refused=refused, sample=orjson.dumps(sample), state=BULK_DONE
        )

    async def _work(self, row: BulkRow) -> None:
        """Do a job page by page, as long as its partition is owned."""
        wanted = _filter_of(row.filter)
        while row.state == BULK_RUNNING and row.partition in self._live.owned:
            after = int(row.cursor or b"0")
            page = await self._store.matching(row.namespace, wanted, after, PAGE)
            done = 0
            for place in range(0, len(page), AT_ONCE):
                part = page[place : place + AT_ONCE]
                done += sum(await asyncio.gather(*(self._one(row, one) for one, _ in part)))
            sample = orjson.loads(row.sample)
            sample += [name for _, name in page[: SAMPLE - len(sample)]]
            moved = row._replace(
                state=BULK_RUNNING if len(page) == PAGE else BULK_DONE,
                matched=row.matched + len(page),
                done=row.done + done,
                refused=row.refused + len(page) - done,
                cursor=b"%d" % page[-1][0] if page else row.cursor,
                sample=orjson.dumps(sample),
                updated_us=self._clock.now_us(),
            )
            if not await self._store.advance_bulk(moved, row.cursor):
                return
            self._counters.add("bulk_executions", len(page))
            row = moved

    async def _one(self, row: BulkRow, execution: int) -> bool:
        """Do what a job wants to one execution; False: it refused."""
        reason = row.reason or f"bulk job {row.id}"
        command = control_pb2.EngineCommand(
            execution=execution, actor=row.actor, request_id=f"bulk-{row.id}"
        )
        if row.action == CANCEL:
            command.cancel = reason
        else:
            command.retry = reason
        try:
            await self._commands.send(command)
        except DependencyDown:
            raise
        except DomainError:
            return False
        return True


def _filter_json(wanted: ExecutionFilter) -> bytes:
    return orjson.dumps(wanted._asdict())


def _filter_of(data: bytes) -> ExecutionFilter:
    found = orjson.loads(data)
    label = found["label"]
    return ExecutionFilter(
        found["workflow"],
        tuple(found["statuses"]),
        None if label is None else (label[0], label[1]),
        found["started_after_us"],
        found["started_before_us"],
    )
