"""The live table: columns stay whole, urgent tasks are shown first, the counts say the rest."""

from datetime import UTC, datetime

from bend.cli.progress import Board, table_rows
from bend.models import Execution, TaskRun, WatchEvent
from tests.kit.stories import Kind, event


def board(*names: str) -> Board:
    one = Board()
    tasks = tuple(TaskRun(task=name, status="PENDING") for name in names)
    one.begin(Execution("flow-1", status="RUNNING", tasks=tasks))
    return one


def tell(one: Board, kind: int, **fields: object) -> None:
    one.apply(WatchEvent.of(event("c", kind, **fields).event))


def test_only_the_last_column_is_cut() -> None:
    one = board("listing", "identify")
    tell(one, Kind.TASK, task="listing", status="COMPLETED", attempt=2)
    tell(one, Kind.TASK, task="identify", status="RUNNING", attempt=1)
    tell(one, Kind.PARTIAL, task="identify", data=b'{"path":"' + b"x" * 300 + b'"}')
    now = datetime(2026, 1, 1, 0, 0, 2, 500_000, tzinfo=UTC)
    rows = [row.plain for row in table_rows(one.shown(10), 80, now)]
    assert rows[0].rstrip() == "✓ listing   completed (attempt 2)"
    assert rows[1].startswith("● identify  running                2.0 s  #1  {")
    assert rows[1].endswith("…")
    assert max(len(row) for row in rows) <= 80


def test_a_narrow_terminal_shows_what_counts() -> None:
    one = board("a")
    tell(one, Kind.LOG, task="a", data=b'{"level":"info","message":"long words"}')
    (row,) = table_rows(one.shown(10), 12, datetime(2026, 1, 1, tzinfo=UTC))
    assert row.plain.strip() == "· a  pending"


def test_urgent_tasks_come_first_when_not_all_fit() -> None:
    one = board(*(f"t{n}" for n in range(100)))
    tell(one, Kind.TASK, task="t7", status="COMPLETED")
    tell(one, Kind.TASK, task="t90", status="FAILED", data=b'{"reason":"X","message":"y"}')
    tell(one, Kind.TASK, task="t80", status="RUNNING")
    assert [line.name for line in one.shown(3)] == ["t7", "t80", "t90"]
    assert [line.name for line in one.shown(2)] == ["t80", "t90"]
    assert one.summary() == "1 failed, 1 running, 1 completed, 97 pending"
    assert one.lines["t90"].text == "X: y"


def test_items_are_counted() -> None:
    one = board("each")
    for item, status in ((0, "COMPLETED"), (1, "RUNNING"), (2, "FAILED")):
        tell(one, Kind.TASK, task="each", item=item, status=status)
    line = one.lines["each"]
    assert line.status == "RUNNING"
    assert line.detail().startswith("2 of 3 items")
