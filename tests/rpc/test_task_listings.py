"""Lists kept for their further pages: for a minute, for their own execution, within bounds.

What would break in production if these fail: readers of large executions would take the memory of
the server, or be shown the tasks of another one.
"""

import pytest

from bend_server.core.model import TaskStatus
from bend_server.rpc import task_listings
from bend_server.rpc.task_listings import TaskListings
from bend_server.rpc.views import TaskView
from tests.kit.backends import ManualClock


def view(output: bytes = b"1") -> TaskView:
    return TaskView("a", -1, TaskStatus.COMPLETED, 1, 1, 1, output, None, None, "w", 1, 2, 3, 0, "")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def listings(clock: ManualClock) -> TaskListings:
    return TaskListings(clock)


def test_a_list_is_found_for_a_minute(listings: TaskListings, clock: ManualClock) -> None:
    tasks = [view()]
    number = listings.keep(7, tasks)
    clock.now += task_listings.AGE_US_MAX - 1
    assert listings.find(7, number) is tasks
    clock.now += 1
    assert listings.find(7, number) is None


def test_a_number_belongs_to_its_execution(listings: TaskListings) -> None:
    number = listings.keep(7, [view()])
    assert listings.find(8, number) is None
    assert listings.find(7, number + 1) is None


def test_too_many_push_out_the_oldest(listings: TaskListings) -> None:
    numbers = [listings.keep(7, [view()]) for _ in range(task_listings.KEPT_MAX + 2)]
    found = [listings.find(7, number) is not None for number in numbers]
    assert found == [False, False] + [True] * task_listings.KEPT_MAX


def test_too_many_bytes_push_out_the_oldest(
    listings: TaskListings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_listings, "BYTES_MAX", 4 * task_listings.VIEW_BYTES)
    small, large = listings.keep(7, [view()]), listings.keep(7, [view(), view()])
    assert listings.find(7, small) is not None
    huge = listings.keep(7, [view(bytes(3 * task_listings.VIEW_BYTES))])
    assert [listings.find(7, number) is not None for number in (small, large, huge)] == [
        False,
        False,
        True,
    ]
    listings.keep(7, [view(bytes(4 * task_listings.VIEW_BYTES))])
    assert not listings._kept
    assert listings._bytes == 0
