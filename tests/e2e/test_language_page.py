"""Every example of docs/language.md by `bend run` on a real mesh: it ends as its comments say."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import bend.sync
from bend.models import Execution
from bend_server.bench.lock import heavy
from bend_server.bench.mesh import Mesh
from bend_server.certificates import Authority
from tests.e2e.stand_in import service
from tests.kit.examples import Example, examples
from tests.kit.waiting import wait_until

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]
EXAMPLES = [one for one in examples() if not one.needs]
CHILDREN = ("double.yaml",)
WAIT_S = "30s"
EXIT_CODES = {"COMPLETED": 0, "FAILED": 1, "TIMED_OUT": 1, "CANCELLED": 7, "PAUSED": 8}


class Page(NamedTuple):
    """The mesh, the folder of the documents, the address of the stand-in, and ada's client."""

    mesh: Mesh
    folder: Path
    http: str
    ada: "bend.sync.Client"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("page")
    with contextlib.ExitStack() as stack:
        stack.enter_context(heavy())
        mesh = Mesh(folder / "home", None)
        mesh._env["BEND_HTTP_ALLOW"] = "127.0.0.0/8"
        mesh.up()
        stack.callback(mesh.down)
        for one in EXAMPLES:
            (folder / one.title).write_text(one.document, encoding="utf-8")
        for title in CHILDREN:
            mesh.bend("workflows", "put", str(folder / title))
        certificate, key = Authority(mesh.home / "certs").leaf("/user/ada")
        ada = bend.sync.Client(
            mesh.status()["urls"]["https"],
            ca_file=mesh.home / "certs" / "ca.pem",
            cert_file=certificate,
            key_file=key,
        )
        yield Page(mesh, folder, stack.enter_context(service()), stack.enter_context(ada))


def run(page: Page, example: Example) -> tuple[int, dict[str, Any]]:
    """Run a document to its end, or for WAIT_S; return the exit code and what it printed."""
    given = json.dumps(example.input).replace("$HTTP", page.http)
    wait = "3s" if example.ends == "PAUSED" else WAIT_S
    done = subprocess.run(
        [sys.executable, "-m", "bend", "run", example.title, "--input", "-", "--json",
         "--timeout", wait],
        env=page.mesh._env, cwd=page.folder, input=given, capture_output=True, text=True,
        timeout=90, check=False,
    )  # fmt: skip
    assert done.stdout.strip(), done.stderr
    return done.returncode, json.loads(done.stdout)


def answered(page: Page, example: Example) -> Execution:
    """Start a document that needs somebody, give it what it waits for, and wait for its end."""
    page.mesh.bend("workflows", "put", str(page.folder / example.title))
    name = example.title.removesuffix(".yaml").replace("-", "_")
    execution = page.ada.start(name, example.input).execution_id
    for signal in example.signals:
        page.ada.signal(execution, signal.name, signal.payload)
    for decision in example.decisions:
        wait_until(lambda: bool(page.ada.list_approvals(execution_id=execution)), "an approval", 20)
        (waiting,) = page.ada.list_approvals(execution_id=execution)
        assert waiting.task == decision.task
        decided = page.ada.decide(
            waiting.approval_id, approved=decision.approved, data=decision.data
        )
        assert decided.status == ("APPROVED" if decision.approved else "REJECTED")
    return page.ada.wait(execution, timeout=60)


@pytest.mark.parametrize("example", EXAMPLES, ids=[one.title for one in EXAMPLES])
def test_an_example_ends_as_it_says(page: Page, example: Example) -> None:
    if example.signals or example.decisions:
        execution = answered(page, example)
        status, output = execution.status, execution.output
    else:
        code, found = run(page, example)
        status, output = found["status"], found["output"]
        assert code == EXIT_CODES[example.ends], found
    assert status == example.ends
    if example.output is not None:
        assert output == example.output
