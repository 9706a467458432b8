"""Results that a rightful executor would never send, about executions that are under way.

What would break in production if these fail: one faulty executor takes the engine down, or makes
answers unreadable.
"""

import asyncio
import sqlite3
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from bend.internal.v1 import frames_pb2
from tests.e2e.hostile.house import ENDED, RELEASED, House
from tests.kit.loops import eventually, in_loop

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]

CLOSED = frames_pb2.QueuedResult.COMPLETED
IGNORED: dict[str, dict[str, Any]] = {
    "no such task": {"task": 99, "try": 1, "status": CLOSED, "output": b"1"},
    "no such item": {"task": 0, "item": 7, "try": 1, "status": CLOSED, "output": b"1"},
    "another try": {"task": 0, "try": 77, "status": CLOSED, "output": b"1"},
    "a task that waits": {"task": 1, "try": 1, "status": CLOSED, "output": b"1"},
    "no status": {"task": 0, "try": 1, "status": 0, "output": b"1"},
    "unknown status": {"task": 0, "try": 1, "status": 99, "output": b"1"},
}
BELIEVED: dict[str, dict[str, Any]] = {
    "output that is no JSON": {"status": CLOSED, "output": b"{not json"},
    "output that is not UTF-8": {"status": CLOSED, "output": b'"\xff\xfe"'},
    "output with NUL": {"status": CLOSED, "output": b'{"value":1}\x00'},
    "a blob that is not there": {"status": CLOSED, "blob": {"key": "default/1/gone"}},
    "a blob of somebody else": {"status": CLOSED, "blob": {"key": "../../etc/passwd"}},
    "texts with NUL": {
        "status": frames_pb2.QueuedResult.FAILED,
        "failure": {"reason": "A\0B", "message": "\0" * 20_000, "details": b"{"},
        "worker": "a\0b",
    },
    "times of no clock": {
        "status": CLOSED,
        "output": b'{"value":1}',
        "started_us": -(1 << 63),
        "finished_us": (1 << 63) - 1,
    },
}


@pytest.fixture
def holding() -> Iterator[None]:
    """Keep the first task of the pair under way, so that it can be lied about, until released."""
    RELEASED.clear()
    yield
    RELEASED.set()


def held_pair() -> dict[str, Any]:
    """Return a workflow whose first task ends when the test lets it."""
    first = {"id": "a", "type": "hostile.held", "value": "{{input.value}}"}
    return {
        "name": "hostile_pair",
        "tasks": [first, {"id": "b", "type": "hostile.step", "value": "{{a.value}}"}],
    }


def number_of(house: House, execution: str) -> int:
    """Return the engine's own number of an execution."""
    database = house.mesh.home / "bend.db"
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        query = "SELECT id FROM execution WHERE public_id = ?"
        return int(connection.execute(query, (execution,)).fetchone()[0])


async def tell(house: House, execution: str, lie: dict[str, Any]) -> None:
    """Publish a result of an execution as its executor would."""
    number = number_of(house, execution)
    result = {"execution": number, "task": 0, "try": 1, **lie}
    frame = frames_pb2.ResultFrame(executor="liar", results=[result])
    async with house.nats("executor") as link:
        for slot in range(2):
            await link.publish(f"results.{slot}", frame.SerializeToString())
        await link.flush(10)


def show(house: House, execution: str) -> dict[str, Any]:
    """Return what REST says; it has to be JSON, whatever a result claimed."""
    answer = house.rest.get(f"/v1/executions/{execution}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = orjson.loads(answer.content)
    return found


@pytest.mark.usefixtures("holding")
@pytest.mark.parametrize("name", IGNORED)
@in_loop
async def test_results_of_nothing_that_runs_are_ignored(house: House, name: str) -> None:
    await asyncio.to_thread(house.deploy, held_pair())
    victim = await asyncio.to_thread(house.start, "hostile_pair", value=5)
    await tell(house, victim, IGNORED[name])
    RELEASED.set()  # the right result comes after the lie in the same lane
    found = await asyncio.to_thread(house.ended, victim)
    assert (found["status"], found["output"]) == ("COMPLETED", {"b": {"value": 7}})


@pytest.mark.usefixtures("holding")
@pytest.mark.parametrize("name", BELIEVED)
@in_loop
async def test_a_lie_costs_its_own_execution_at_most(house: House, name: str) -> None:
    await asyncio.to_thread(house.deploy, held_pair())
    victim = await asyncio.to_thread(house.start, "hostile_pair", value=5)
    load = await asyncio.to_thread(house.start_load, 5)
    await tell(house, victim, BELIEVED[name])

    def over() -> bool:
        status = show(house, victim)["status"]
        return status in ENDED or status == "PAUSED"

    await eventually(lambda: asyncio.to_thread(over), 90)
    assert house.rest.get(f"/v1/executions/{victim}/tasks").status_code == 200
    listed = house.rest.get("/v1/executions", params={"workflow": "hostile_pair"})
    assert listed.status_code == 200
    assert victim in {one["execution_id"] for one in listed.json()["executions"]}
    found = show(house, victim)
    assert found["tasks"]["a"]["status"] in ("COMPLETED", "FAILED")
    if name.startswith("output"):
        assert found["error"]["reason"] == "INVALID_OUTPUT"
    await asyncio.to_thread(house.judge, load)
