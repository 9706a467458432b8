"""SIGKILL while loops, fan-outs, children, timers, signals and compensations are under way.

The chains of test_kills prove the hot path; this one proves that control flow survives the same:
every execution ends as it must, with exactly the rows that it must have.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from bend.v1 import engine_service_pb2 as pb
from bend.v1 import execution_control_pb2
from bend_server.bench.lock import heavy
from bend_server.bench.mesh import Mesh
from tests.e2e import scenario
from tests.e2e.ledger import PostgresLedger, SqliteLedger
from tests.e2e.site import ACTIONS, ENGINES, POSTGRESQL, SQLITE, Site
from tests.kit.postgres import PostgresServer
from tests.kit.waiting import wait_until

pytestmark = [pytest.mark.kill, pytest.mark.timeout(300)]

EXECUTIONS = 120
ITEMS = 6
END_S = 120.0
COMPLETED, FAILED = 4, 5
RESULTS = "SELECT count(*) FROM task_result"
CHILD: dict[str, Any] = {
    "name": "kill_child",
    "tasks": [
        {"id": "nap", "type": "wait", "duration": "200ms"},
        {
            "id": "step", "type": "journal.step", "value": "{{input.value}}", "wait_ms": 50,
            "depends_on": ["nap"],
        },
    ],
    "output": {"value": "{{step.value}}"},
}  # fmt: skip
FLOW: dict[str, Any] = {
    "name": "kill_flow",
    "tasks": [
        {
            "id": "fan", "type": "journal.step", "for_each": list(range(ITEMS)), "max_parallel": 3,
            "value": "{{input.value + item}}", "wait_ms": 150,
            "compensate": {"type": "journal.step", "value": "{{item}}", "wait_ms": 0},
        },
        {
            "id": "rounds", "type": "journal.step", "value": "{{input.value + iteration}}",
            "wait_ms": 40, "repeat": {"until": "output.value >= input.value + 4", "max": 9},
        },
        {
            "id": "called", "type": "workflow", "workflow": "kill_child",
            "input": {"value": "{{rounds.value}}"},
        },
        {"id": "go", "type": "signal", "name": "go", "depends_on": ["fan"]},
        {
            "id": "doubt", "type": "signal", "name": "never", "timeout": "100ms",
            "depends_on": ["go", "called"], "condition": "input.value % 3 == 0",
        },
    ],
    "output": {
        "fan": "{{fan}}", "rounds": "{{rounds.value}}", "called": "{{called.value}}", "go": "{{go}}"
    },
}  # fmt: skip


def expected(value: int) -> tuple[int, Any]:
    """Return the status and the output that an execution started with `value` must have."""
    if value % 3 == 0:
        return FAILED, None
    output = {
        "fan": [{"value": value + item + 1} for item in range(ITEMS)],
        "rounds": value + 4,
        "called": value + 5,
        "go": {"value": value},
    }
    return COMPLETED, output


def completed_rows(value: int) -> Counter[str]:
    """Return how many COMPLETED rows each task of an execution must have."""
    rows = Counter(fan=ITEMS + 1, rounds=4, called=1, go=1)
    if value % 3 == 0:
        rows["fan.compensate"] = ITEMS
    return rows


@pytest.fixture(
    scope="module", params=[SQLITE, pytest.param(POSTGRESQL, marks=pytest.mark.postgres)]
)
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    with heavy():
        home: Path = tmp_path_factory.mktemp("control") / "home"
        if request.param == SQLITE:
            made = Site(Mesh(home, None), SqliteLedger(home / "bend.db"))
        else:
            server = PostgresServer()
            server.start()
            url = server.fresh_database()
            made = Site(Mesh(home, url), PostgresLedger(url), server)
        try:
            made.mesh.up()
            yield made
        finally:
            made.down()


class Run:
    """The load: starts, and gives every execution its signal, however often processes die."""

    def __init__(self, mesh: Mesh) -> None:
        self.caller = scenario.Caller(mesh)
        self.ids: dict[str, int] = {}
        for document in (CHILD, FLOW):
            request = pb.UpdateWorkflowRequest(name=document["name"])
            request.document.content_type = "application/json"
            request.document.data = orjson.dumps(document)
            self.caller.persist("UpdateWorkflow", request)

    def __call__(self) -> None:
        starts = [
            pb.StartRequest(
                workflow="kill_flow", parameters=b'{"value":%d}' % value, request_id=f"flow-{value}"
            )
            for value in range(EXECUTIONS)
        ]
        request = pb.StartExecutionsRequest(starts=starts)
        while len(self.ids) < EXECUTIONS:
            answer = self.caller.persist("StartExecutions", request)
            for value, outcome in enumerate(answer.outcomes):
                if outcome.code == 0:
                    self.ids[outcome.execution_id] = value
        for execution, value in self.ids.items():
            self.caller.persist(
                "SignalExecution",
                execution_control_pb2.SignalExecutionRequest(
                    execution_id=execution,
                    name="go",
                    payload=b'{"value":%d}' % value,
                    request_id=f"go-{value}",
                ),
            )


def unfinished(site: Site) -> int:
    """Return how many executions have not ended."""
    return site.number("SELECT count(*) FROM execution WHERE status < 4")


def test_control_flow_survives_kills(site: Site, figure: Callable[[str], None]) -> None:
    chance = scenario.seeded(f"control flow on {site.database}")
    worker = scenario.Worker(site.mesh)
    worker.start()
    run = Run(site.mesh)
    victims = [*ENGINES[site.database][:1], "executor", "nats_wiped", "worker"]
    chance.shuffle(victims)
    load = threading.Thread(target=run)
    load.start()
    try:
        for victim in victims:
            aim = site.number(RESULTS) + chance.randrange(200, 700)
            # All have ended only once all have begun.
            wait_until(
                lambda aim=aim: (
                    site.number(RESULTS) >= aim
                    or (len(run.ids) == EXECUTIONS and not unfinished(site))
                ),
                victim,
                END_S,
            )
            ACTIONS[site.database][victim](site, worker, site.pids())
        load.join(END_S)
        assert not load.is_alive()
        wait_until(lambda: not unfinished(site), "every execution has ended", END_S)
    finally:
        load.join(END_S)
        worker.kill()
    judge(site, run.ids)
    figure(f"control flow on {site.database}: killed {victims}, {EXECUTIONS} as they must be")


def judge(site: Site, ids: dict[str, int]) -> None:
    """Compare SQL with the only right end of every execution."""
    found = site.ledger.rows(
        "SELECT id, public_id, status, output FROM execution WHERE workflow = 'kill_flow'"
    )
    assert {row[1] for row in found} == set(ids)
    by_id = {row[0]: ids[row[1]] for row in found}
    for _, public, status, output in found:
        wanted = expected(ids[public])
        assert (status, orjson.loads(output) if output else None) == wanted, public
    children = site.ledger.rows(
        "SELECT parent, status FROM execution WHERE workflow = 'kill_child'"
    )
    assert Counter(parent for parent, _ in children) == Counter(dict.fromkeys(by_id, 1))
    assert {status for _, status in children} == {COMPLETED}
    names = [task["id"] for task in FLOW["tasks"]] + ["fan.compensate"]
    rows: dict[int, Counter[str]] = {execution: Counter() for execution in by_id}
    query = f"SELECT execution, task FROM task_result WHERE status = {scenario.COMPLETED_TASK}"
    for execution, task in site.ledger.rows(query):
        if execution in rows:
            rows[execution][names[task]] += 1
    for execution, value in by_id.items():
        assert rows[execution] == completed_rows(value), execution
