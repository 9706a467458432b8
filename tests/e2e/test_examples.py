"""Every example is set up and run as its README says, on one mesh with the shipped commands.

The blocks of the READMEs are read here, so that what they promise is what is tested. `bend up`
stands in each; here one mesh has the operator's settings of all of them.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from bend_server.bench.mesh import Mesh
from tests.components import onnx_files as onnx
from tests.components.sandboxes import best
from tests.e2e import threat_services
from tests.kit.documents import blocks
from tests.kit.waiting import wait_until
from tests.language.test_example import EXAMPLE

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("http", "python", "grpc", "model", "sql", "kafka", "shell")
ONES_OWN = "in a terminal of its own"
ALLOW = "BEND_HTTP_ALLOW="
STARTED_S_MAX = 90.0
# More than the credit that all components together once had.
SCRIPTS = 700

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(400)]


class Steps(NamedTuple):
    """What a README's block does: files and folders, servers that stay, and runs."""

    allow: str
    made: list[str]
    served: list[str]
    runs: list[str]


def steps(folder: str) -> Steps:
    """Sort the lines of an example's README; fails for a line of no known kind."""
    found = Steps("", [], [], [])
    for language, _title, text in blocks(ROOT / "examples" / folder / "README.md"):
        assert language in ("sh", "bash"), language
        for line in text.splitlines():
            command = line.partition("#")[0].strip()
            if command.startswith(ALLOW):
                found = found._replace(allow=shlex.split(command)[0].removeprefix(ALLOW))
                command = command.partition(" ")[2]
            if command.startswith("bend run "):
                found.runs.append(command.replace(" --watch", ""))
            elif command.startswith(("bend up", "bend down", "export BEND_HOME=")):
                continue
            elif command.endswith("&") or ONES_OWN in line:
                found.served.append(command.rstrip("& "))
            else:
                assert command.startswith(("python ", "mkdir ", "cp ")), line
                found.made.append(command)
    assert found.runs, folder
    return found


class Ended(NamedTuple):
    """How one `bend run` ended."""

    code: int
    execution: dict[str, Any]

    @property
    def output(self) -> Any:
        """Of the execution."""
        return self.execution["output"]

    def task(self, name: str) -> dict[str, Any]:
        """One task of the execution."""
        found: dict[str, Any] = self.execution["tasks"][name]
        return found


class House:
    """The mesh, and what stands beside it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.mesh = Mesh(home, None)
        self._words = {name: steps(name) for name in FOLDERS}
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("BEND_")}
        self.env |= {
            "BEND_HOME": str(home),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONUNBUFFERED": "1",
        }
        allowed = {words.allow for words in self._words.values() if words.allow}
        self._allow = {"BEND_HTTP_ALLOW": ",".join(sorted(allowed))}
        self._open = ExitStack()
        # The servers' usual ports may be in use; where each listens is a parameter of its workflow.
        self._places: dict[str, str] = {}

    def up(self) -> None:
        """Set every example up, then start the mesh with the settings of all of them."""
        settings: dict[str, Any] = {}
        place = self.home / "components.yaml"
        for folder, words in self._words.items():
            for command in words.made:
                subprocess.run(["bash", "-euc", command], cwd=ROOT, env=self.env, check=True)
            for command in words.served:
                self._serve(folder, command)
            if place.exists():
                settings |= yaml.safe_load(place.read_text(encoding="utf-8"))
                place.unlink()
        settings["http"] = {"hosts": threat_services.HOSTS}
        place.write_text(yaml.safe_dump(settings), encoding="utf-8")
        self._open.callback(self.mesh.down)
        self.bend("up --detach", **self._allow)

    def _serve(self, folder: str, command: str) -> None:
        """Start a stand-in; return when it has said where it listens."""
        log = self.home / f"{folder}.out"
        free_port = command.endswith("server.py")
        command += " 0" if free_port else ""
        with log.open("wb") as output:
            process = subprocess.Popen(
                shlex.split(command), cwd=ROOT, env=self.env, stdout=output, stderr=output
            )
        self._open.callback(process.wait, 60)
        self._open.callback(process.terminate)

        def listens() -> bool:
            assert process.poll() is None, log.read_text(encoding="utf-8")
            return b"127.0.0.1:" in log.read_bytes()

        wait_until(listens, f"{command} listens", STARTED_S_MAX)
        if free_port:
            self._places[folder] = log.read_text(encoding="utf-8").split()[0]

    def down(self) -> None:
        """End all that was started."""
        self._open.close()

    def bend(self, words: str, **more: str) -> "subprocess.CompletedProcess[str]":
        """Run a command as a person would."""
        return subprocess.run(
            [sys.executable, "-m", "bend", *shlex.split(words)],
            cwd=ROOT,
            env=self.env | more,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )

    def run(self, command: str) -> Ended:
        """Run `bend run …` with --json."""
        done = self.bend(f"{command.removeprefix('bend ')} --json")
        assert done.stdout, done.stderr
        execution = json.loads(done.stdout)
        if not execution["tasks"]:
            name = execution["execution_id"]
            execution = json.loads(self.bend(f"executions get {name} --json").stdout)
        return Ended(done.returncode, execution)

    def runs(self, folder: str) -> list[Ended]:
        """Run what an example's README runs, in its order."""
        place = self._places.get(folder)
        more = f" -p service={place}" if place else ""
        return [self.run(command + more) for command in self._words[folder].runs]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    made = House(tmp_path_factory.mktemp("examples") / "home")
    made.home.mkdir(mode=0o700)
    try:
        made.up()
        yield made
    finally:
        made.down()


def completed(*ended: Ended) -> None:
    """Check that all of them completed."""
    for one in ended:
        assert (one.code, one.execution["status"]) == (0, "COMPLETED"), one.execution


@pytest.mark.parametrize("folder", ["http", "grpc"])
def test_a_workflow_finds_its_server_where_it_usually_listens(folder: str) -> None:
    place = ROOT / "examples" / folder
    document = yaml.safe_load((place / "workflow.yaml").read_text(encoding="utf-8"))
    usual = document["input"]["properties"]["service"]["default"].rpartition(":")[2]
    assert f"\nPORT = {usual}\n" in (place / "server.py").read_text(encoding="utf-8")


def test_http(house: House) -> None:
    bad, good = house.runs("http")
    completed(bad, good)
    assert bad.output == {"risk": 0.93, "last": "done", "block": "completed"}
    assert bad.task("block")["output"]["blocked"] == "198.51.100.7"
    assert good.output == {"risk": 0.1, "last": "done", "block": "skipped"}


def test_python(house: House) -> None:
    best()
    (done,) = house.runs("python")
    completed(done)
    assert done.output["figures"] == {"mean": 5.0, "spread": pytest.approx(2.6458, abs=1e-4)}
    assert done.output["text"] == "The mean is 5.0, give or take 2.65."
    log = (house.home / "logs" / "components.log").read_text(encoding="utf-8")
    assert re.search(r"python: sandbox by (bubblewrap|namespaces) \(", log)


def test_grpc(house: House) -> None:
    done, unknown = house.runs("grpc")
    completed(done)
    assert done.output == {"now": 1250, "last": 1252}
    assert unknown.code != 0
    assert unknown.execution["error"]["reason"] == "GRPC_NOT_FOUND"
    assert unknown.task("price")["attempt"] == 1


def test_model(house: House) -> None:
    three, one = house.runs("model")
    completed(three, one)
    assert three.output == {"species": ["setosa", "versicolor", "virginica"]}
    assert one.output == {"species": ["setosa"]}


def test_sql(house: House) -> None:
    least, paid = house.runs("sql")
    completed(least, paid)
    assert [row["total"] for row in least.output["orders"]] == [310.0, 240.0, 75.5]
    assert [row["customer"] for row in paid.output["orders"]] == ["Bo", "Cy"]
    assert least.output["noted"] == paid.output["noted"] == "completed"
    assert least.task("note")["output"]["row_count"] == 1


def test_kafka(house: House) -> None:
    (done,) = house.runs("kafka")
    completed(done)
    assert done.output["announced"].keys() == {"partition", "offset", "timestamp"}
    assert done.output["lines"] == 2
    log = house.home / "kafka.out"
    wait_until(lambda: b'"article":"ink"' in log.read_bytes(), "all messages came", 90)
    arrived = [line for line in log.read_text(encoding="utf-8").splitlines() if "order-7" in line]
    assert len(arrived) == 3


def test_shell(house: House) -> None:
    best()
    (done,) = house.runs("shell")
    completed(done)
    assert done.output == {"words": "be\nnot\nor\n"}


def test_all_of_them_are_shown_with_their_instances(house: House) -> None:
    listed = json.loads(house.bend("components list --json").stdout)
    assert set(FOLDERS) <= {entry["name"] for entry in listed.get("components", listed)}


def test_the_workflow_of_the_specification_runs_unchanged(house: House) -> None:
    """The services are stand-ins; their names are the operator's to give addresses to."""
    port = [onnx.port(name, onnx.FLOAT, ["N", 1]) for name in ("features", "risk")]
    scoring = onnx.model([onnx.node("Identity", ["features"], "risk")], port[:1], port[1:])
    onnx.placed(house.home / "models", "threat_scoring_v2", scoring, "1.0.0")
    file = house.home / "auto_threat_response.yaml"
    file.write_bytes(EXAMPLE)
    with ExitStack() as stack:
        try:
            services = stack.enter_context(threat_services.services())
        except OSError as error:
            pytest.skip(f"no address for each service on port {threat_services.PORT}: {error}")
        bad, good, again = (
            house.run(f"bend run {file} -p indicator={ip}")
            for ip in ("198.51.100.7", "192.0.2.1", "198.51.100.7")
        )
    completed(bad, good, again)
    assert bad.task("score")["output"]["risk"] == pytest.approx(0.9)
    reason = f"High risk score: {bad.task('score')['output']['risk']}"
    assert services.calls["api-gateway"] == [{"ip": "198.51.100.7", "reason": reason}] * 2
    assert [good.task(name)["status"] for name in ("score", "block")] == ["COMPLETED", "SKIPPED"]
    assert services.calls["audit-trail"] == [
        {
            "workflow": run.execution["execution_id"],
            "action": "threat_response",
            "result": result,
        }
        for run, result in ((bad, "completed"), (good, "skipped"), (again, "completed"))
    ]
    # `cacheable`: what is known of an indicator is not asked again.
    asked = [body["indicator"] for body in services.calls["threat-intel"]]
    assert asked == ["198.51.100.7", "192.0.2.1"]


def test_scripts_that_wait_hold_nothing_that_requests_need(house: House) -> None:
    best()
    many = {
        "name": "many_scripts",
        "tasks": [
            {"id": f"t{n}", "type": "python", "script": "import time\ntime.sleep(100)"}
            for n in range(SCRIPTS)
        ],
    }
    file = house.home / "many.json"
    file.write_text(json.dumps(many), encoding="utf-8")
    started = json.loads(house.bend(f"run {file} --detach --json").stdout)["execution_id"]
    try:
        (done, *_) = house.runs("http")
        completed(done)
    finally:
        ended = house.bend(f"executions cancel {started}")
    assert ended.returncode == 0, ended.stderr
