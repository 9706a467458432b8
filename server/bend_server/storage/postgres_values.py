"""The parameters of the group commit's statement: a batch turned into arrays by column."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from bend_server.core.errors import InvariantBroken
from bend_server.core.ids import public_id
from bend_server.core.model import StartRow
from bend_server.ports.store import Batch
from bend_server.storage.postgres_statement import Variant
from bend_server.storage.rows import labels_of, signed_run_ids
from bend_server.storage.rules import distinct_starts


class Tail(NamedTuple):
    """What changes in an execution's row, in the order of `postgres_statement.TAIL_COLUMNS`."""

    status: int | None = None
    run: int | None = None
    pause_reason: str | None = None
    parked: int = 0
    wake_at_us: int | None = None
    finish_seq: int | None = None
    output: bytes | None = None
    blob: str | None = None
    error: bytes | None = None
    finished_us: int | None = None


class Change(NamedTuple):
    """All updates of one execution's row in one batch."""

    has_status: bool
    has_park: bool
    has_end: bool
    tail: Tail


Prepared = tuple[Variant, list[object]]
_NOTHING = Change(False, False, False, Tail())


def prepare(batch: Batch) -> Prepared:
    """Return the variant of the statement that a batch needs, and its values after the fence."""
    ids = {row.id for row in batch.starts}
    changes = _changes(batch) if batch.parks or batch.changes else None
    values: list[object] = []
    variant = Variant()
    if batch.starts:
        variant = _starts(batch, ids, changes, values)
    results, events = batch.results, batch.events
    early = bool(ids) and any(row.execution in ids for rows in (results, events) for row in rows)
    if early:
        # The statement drops the rows of starts that it refuses; of those left out before it
        # knows nothing.
        dropped = ids - {row.id for row, _ in distinct_starts(batch)}
        results = [row for row in results if row.execution not in dropped]
        events = [row for row in events if row.execution not in dropped]
    if results:
        values.extend(_columns(signed_run_ids(results)))
    if events:
        values.extend(_columns(events))
    variant = variant._replace(results=bool(results), events=bool(events), early=early)
    return _ends(batch, ids, changes, variant, values), values


def _columns(rows: Iterable[Sequence[object]]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _ends(
    batch: Batch,
    ids: set[int],
    changes: dict[int, Change] | None,
    variant: Variant,
    values: list[object],
) -> Variant:
    rest: list[tuple[object, ...]]
    if changes is not None:
        rest = [
            (execution, *change[:3], *change.tail)
            for execution, change in changes.items()
            if execution not in ids
        ]
        variant = variant._replace(mixed=bool(rest))
    else:
        # Without parks and changes, ends are written as they are: the ordinary road.
        rest = [row for row in batch.finishes if row.execution not in ids]
        variant = variant._replace(finishes=bool(rest))
    if rest:
        values.extend(_columns(rest))
        values.append(len(rest))
    return variant


def _changes(batch: Batch) -> dict[int, Change]:
    """Gather all updates by execution: one statement may touch a row only once."""
    found: dict[int, Change] = {}
    for change in batch.changes:
        known = found.get(change.execution, _NOTHING)
        tail = known.tail._replace(status=int(change.status), pause_reason=change.pause_reason)
        found[change.execution] = known._replace(has_status=True, tail=tail)
    for park in batch.parks:
        known = found.get(park.execution, _NOTHING)
        wake_at_us = park.wake_at_us
        tail = known.tail._replace(parked=int(wake_at_us != 0), wake_at_us=wake_at_us or None)
        found[park.execution] = known._replace(has_park=True, tail=tail)
    for end in batch.finishes:
        if end.execution in found and found[end.execution].has_end:
            raise InvariantBroken("two ends of one run", execution=end.execution)
        found[end.execution] = Change(
            True,
            True,
            True,
            Tail(
                status=int(end.status),
                run=end.run,
                finish_seq=end.seq,
                output=end.output,
                blob=end.blob,
                error=end.error,
                finished_us=end.finished_us,
            ),
        )
    return found


def _starts(
    batch: Batch, ids: set[int], changes: dict[int, Change] | None, values: list[object]
) -> Variant:
    starts = distinct_starts(batch)
    if changes is None and batch.finishes:
        changes = _changes(batch) if any(row.execution in ids for row in batch.finishes) else None
    tailed = changes is not None and any(row.id in changes for row, _ in starts)
    values.extend(_columns([(*row, current) for row, current in starts]))
    if tailed:
        values.extend(_columns([_tail(row, changes or {}) for row, _ in starts]))
    labels = [
        (row.namespace, key, value, row.id)
        for row, _ in starts
        if len(row.labels) > 2
        for key, value in labels_of(row.labels)
    ]
    if labels:
        values.extend(_columns(labels))
    return Variant(
        starts=True,
        requests=any(row.request_id is not None for row, _ in starts),
        checked=any(row.public_id != public_id(row.workflow, row.id) for row, _ in starts),
        labels=bool(labels),
        tailed=tailed,
    )


def _tail(row: StartRow, changes: dict[int, Change]) -> Tail:
    change = changes.get(row.id)
    if change is None:
        return Tail(status=row.status, run=row.run)
    tail = change.tail
    if not change.has_status:
        tail = tail._replace(status=row.status)
    return tail if change.has_end else tail._replace(run=row.run)
