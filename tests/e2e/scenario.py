"""The load that the kill tests run: chains whose every step is in the component's journal."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Self

import grpc
import orjson

from bend import errors
from bend.status import error_of
from bend.v1 import engine_service_pb2 as engine
from bend.v1 import engine_service_pb2_grpc
from bend_server.bench.mesh import Mesh
from tests.e2e.ledger import Away, Ledger
from tests.kit import journal

LENGTH = 5
EXECUTIONS = 4000
IN_FLIGHT_MIN = 1000
BATCH = 200
END_S_MAX = 300.0
COMPLETED_EXECUTION = 4
COMPLETED_TASK = 5
PASSING = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.FAILED_PRECONDITION,
)


def document() -> bytes:
    """Return the workflow: a chain of LENGTH steps, each taking 0 to 40 ms."""
    tasks = []
    for i in range(1, LENGTH + 1):
        source = "{{input.value}}" if i == 1 else f"{{{{s{i - 1}.value}}}}"
        tasks.append(
            {
                "id": f"s{i}",
                "type": "journal.step",
                "value": source,
                # The first step is slow, so that many are in flight before the first ends.
                "wait_ms": 500 if i == 1 else f"{{{{(input.value * 7 + {i * 11}) % 40}}}}",
            }
        )
    return orjson.dumps({"name": "kill_chain", "tasks": tasks})


class Worker:
    """The journal component as a process; may be killed and started again."""

    def __init__(self, mesh: Mesh, name: str = "journal") -> None:
        self.file = mesh.home / f"{name}.txt"
        certs = mesh.home / "certs"
        mesh.bend("components", "cert", "journal")
        self._env = {k: v for k, v in os.environ.items() if not k.startswith("BEND_")} | {
            "BEND_HOME": str(mesh.home),
            "BEND_CERT_FILE": str(certs / "component-journal.pem"),
            "BEND_KEY_FILE": str(certs / "component-journal.key"),
            journal.JOURNAL_VARIABLE: str(self.file),
        }
        self._log = (mesh.home / "logs" / "journal-worker.log").open("ab")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.kit.journal"],
            env=self._env,
            stdout=self._log,
            stderr=self._log,
        )

    def kill(self) -> None:
        """End the process with SIGKILL."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(60)
            self._process = None


def passing(error: grpc.RpcError) -> bool:
    """Tell whether a kill explains how a call failed: only then is it tried again.

    An answer that is cut off in the middle has one of several codes; the SDK knows them all.
    """
    return error.code() in PASSING or isinstance(error_of(error), errors.Unreachable)


class Caller:
    """Starts executions through the gateway and does not give up: the same request ids again."""

    def __init__(self, mesh: Mesh) -> None:
        certs = mesh.home / "certs"
        credentials = grpc.ssl_channel_credentials(
            (certs / "ca.pem").read_bytes(),
            (certs / "user-dev.key").read_bytes(),
            (certs / "user-dev.pem").read_bytes(),
        )
        url = str(mesh.status()["urls"]["https"]).removeprefix("https://")
        options = [
            ("grpc.ssl_target_name_override", "localhost"),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 500),
        ]
        self._channel = grpc.secure_channel(url, credentials, options)
        self._stub = engine_service_pb2_grpc.EngineServiceStub(self._channel)

    def persist(self, method: str, request: Any) -> Any:
        """Call until it is answered."""
        deadline = time.monotonic() + END_S_MAX
        while True:
            try:
                return getattr(self._stub, method)(request, timeout=10)
            except grpc.RpcError as error:
                if not passing(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def deploy(self) -> None:
        """Store the workflow; waits until the component has registered itself."""
        request = engine.UpdateWorkflowRequest(name="kill_chain")
        request.document.content_type = "application/json"
        request.document.data = document()
        self.persist("UpdateWorkflow", request)

    def start(self, first: int, count: int) -> dict[str, int]:
        """Start executions with values first to first + count - 1; return value by id."""
        starts = [
            engine.StartRequest(
                workflow="kill_chain",
                parameters=b'{"value":%d}' % value,
                request_id=f"kill-{value}",
            )
            for value in range(first, first + count)
        ]
        ids: dict[str, int] = {}
        waiting = {start.request_id: start for start in starts}
        deadline = time.monotonic() + END_S_MAX
        while waiting:
            assert time.monotonic() < deadline, f"{len(waiting)} starts were never accepted"
            page = list(waiting.values())
            answer = self.persist("StartExecutions", engine.StartExecutionsRequest(starts=page))
            for start, outcome in zip(page, answer.outcomes, strict=True):
                if outcome.code == 0:
                    ids[outcome.execution_id] = int(start.request_id.removeprefix("kill-"))
                    del waiting[start.request_id]
        return ids


class Verdict(NamedTuple):
    """What the comparison of SQL with the journal found."""

    unfinished: int
    wrong: int
    lost: int
    doubled: int
    redone: int


class Progress:
    """Follows a run in SQL from a thread of its own, while its block lasts.

    It remembers the longest time in which no row was written, whatever the test does meanwhile, and
    tells when the number of unfinished executions is falling towards the least that a test wants.
    Executions up to the internal id `since` belong to earlier runs.
    """

    def __init__(self, ledger: Ledger, since: int) -> None:
        self._ledger = ledger
        self._query = (
            f"SELECT (SELECT count(*) FROM task_result WHERE execution > {since}), count(*) "
            f"FROM execution WHERE status <> {COMPLETED_EXECUTION}"
        )
        self._since = time.monotonic()
        self._deadline = self._since + END_S_MAX
        self._looked = threading.Condition()
        self._looks = 0
        self._fault: BaseException | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow)
        self.rows = 0
        self.unfinished = 0
        self.falling = False
        self.stall_s = 0.0
        self._most = 0

    def __enter__(self) -> Self:
        """Begin to look."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Look no more."""
        self._over.set()
        self._thread.join()

    def until(self, reached: Callable[[], bool]) -> None:
        """Return once what is seen fits; fails when the run takes too long.

        What was seen before the call counts for nothing.
        """
        with self._looked:
            first = self._looks + 2  # one look may be under way
            self._looked.wait_for(
                lambda: self._fault is not None or (self._looks >= first and reached())
            )
            assert self._fault is None, (
                f"{self.unfinished} executions unfinished, {self.rows} rows: {self._fault!r}"
            )

    def _follow(self) -> None:
        while not self._over.wait(0.02):
            fault: BaseException | None = None
            try:
                self._look()
            except Exception as error:  # noqa: BLE001 - the test is told
                fault = error
            with self._looked:
                self._looks += 1
                self._fault = fault
                self._looked.notify_all()
            if fault is not None:
                return

    def _look(self) -> None:
        rows = self.rows
        with contextlib.suppress(Away):
            ((rows, self.unfinished),) = self._ledger.rows(self._query)
        self._most = max(self._most, self.unfinished)
        self.falling = self._most >= 2 * IN_FLIGHT_MIN and self.unfinished < 1.5 * IN_FLIGHT_MIN
        now = time.monotonic()
        if rows != self.rows:
            if self.rows:
                self.stall_s = max(self.stall_s, now - self._since)
            self.rows, self._since = rows, now
        if now > self._deadline:
            raise TimeoutError(f"not over after {END_S_MAX:.0f} s")


def judge(ledger: Ledger, ids: dict[str, int], journal_file: Path, since: int = 0) -> Verdict:
    """Compare SQL's rows with the journal and with the only right outputs.

    Args:
        ledger: reads the database.
        ids: value by public id of every execution that was accepted.
        journal_file: what the component did.
        since: executions up to this internal id belong to earlier runs.
    """
    done = journal.read(journal_file)
    executions = ledger.rows(
        f"SELECT id, public_id, status, output FROM execution WHERE id > {since}"
    )
    results = ledger.rows(
        "SELECT execution, task FROM task_result "
        f"WHERE status = {COMPLETED_TASK} AND execution > {since}"
    )
    by_id = {row[0]: row[1] for row in executions}
    statuses = [status for _, _, status, _ in executions]
    wrong = sum(
        status != COMPLETED_EXECUTION
        or orjson.loads(output) != {f"s{LENGTH}": {"value": ids[public] + LENGTH}}
        for _, public, status, output in executions
    )
    rows = Counter((by_id[execution], task) for execution, task in results)
    unseen = sum(
        not done[journal.Entry(execution, f"s{task + 1}", ids[execution] + task)]
        for execution, task in rows
    )
    missing = len(ids) * LENGTH - len(rows) + len(set(ids) ^ set(by_id.values()))
    return Verdict(
        unfinished=len(statuses) - statuses.count(COMPLETED_EXECUTION),
        wrong=wrong,
        lost=unseen + missing,
        doubled=sum(count - 1 for count in rows.values()),
        redone=sum(done.values()) - len(done),
    )


def seeded(name: str) -> random.Random:
    """Return a seeded source for a test's random points; the seed is printed."""
    seed = int(os.environ.get("BEND_TEST_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"{name}: seed {seed}")
    return random.Random(seed)
