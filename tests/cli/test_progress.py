"""The live table: columns stay whole, urgent tasks are shown first, the counts say the rest."""

from datetime import UTC, datetime

import pytest

from bend.cli.progress import Board, PlainProgress, table_rows
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


def test_items_are_counted_before_they_begin() -> None:
    one = board("each")
    counted = b'{"event":"ITEMS_COUNTED","actor":"","body":{"count":6}}'
    tell(one, Kind.TASK, task="each", status="RUNNING", data=counted)
    assert one.lines["each"].detail() == "0 of 6 items  6 items"
    tell(one, Kind.TASK, task="each", item=0, status="FAILED", data=b'{"reason":"X","message":"y"}')
    assert one.lines["each"].detail() == "1 of 6 items  [0] X: y"


def test_items_that_undo_a_task_are_settled_by_the_end() -> None:
    one = board()
    for item in (1, 0):
        tell(one, Kind.TASK, task="each.compensate", item=item, status="COMPLETED")
    assert one.summary() == "1 running"
    tell(one, Kind.EXECUTION, status="FAILED", data=b'{"reason":"X"}', terminal=True)
    assert one.summary() == "1 completed"


def test_lines_say_what_is_new_and_why_something_waits(capsys: pytest.CaptureFixture[str]) -> None:
    view = PlainProgress()
    view.begin(Execution("flow-1", status="RUNNING", tasks=(TaskRun("ask", "PENDING"),)))

    def happens(kind: int, **fields: object) -> None:
        view.apply(WatchEvent.of(event("c", kind, **fields).event))

    approval = b'{"event":"WAITING","body":{"kind":4,"due_us":0,"name":"","title":"Go on?"}}'
    timer = b'{"event":"WAITING","body":{"kind":2,"due_us":1767225600436480,"name":"","title":""}}'
    child = b'{"event":"CHILD_STARTED","body":{"child":7,"public_id":"kid-7"}}'
    happens(Kind.TASK, task="nap", status="WAITING", data=timer)
    happens(Kind.TASK, task="nap", status="WAITING", data=timer)
    happens(Kind.TASK, task="kids", item=1, status="RUNNING", data=child)
    happens(Kind.LOG, task="kids", item=1, data=b'{"level":"info","message":"half way"}')
    happens(Kind.LOG, task="kids", item=1, data=b'{"level":"debug","message":"sandbox"}')
    happens(Kind.TASK, task="kids", item=1, status="COMPLETED", data=b'"text"')
    happens(Kind.TASK, task="ask", status="WAITING", data=b'{"waiting":"approval Go on?"}')
    happens(Kind.TASK, task="ask", status="WAITING", data=approval)
    happens(Kind.EXECUTION, status="RUNNING", data=b'{"event":"COMPENSATING"}')
    happens(Kind.EXECUTION, status="PAUSED", data=b'{"event":"PAUSED","body":{"reason":"look"}}')
    said = [line.split(" ", 1)[1] for line in capsys.readouterr().out.splitlines()]
    assert said == [
        "flow-1 1 task",
        "nap waiting - timer until 2026-01-01T00:00:00Z",
        "kids[1] running - child kid-7",
        "kids[1] log: half way",
        "kids[1] completed",
        "ask waiting - approval Go on? (see: bend approvals list)",
        "flow-1 running: compensating",
        "flow-1 paused: look",
    ]
