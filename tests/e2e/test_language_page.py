"""Every example of docs/language.md by `bend run` on a real mesh, to the end that it announces."""

import contextlib
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from bend_server.bench.lock import heavy
from bend_server.bench.mesh import Mesh
from tests.kit.examples import Example, examples
from tests.kit.waiting import wait_until

pytestmark = [pytest.mark.kill, pytest.mark.timeout(300)]
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT", "PAUSED")
WITHIN_S = 30.0
EXAMPLES = {one.title: one for one in examples() if not one.needs}


class StandIn(BaseHTTPRequestHandler):
    """Answers JSON; /flaky says 503 at first."""

    protocol_version = "HTTP/1.1"
    asked: set[str] = set()

    def do_GET(self) -> None:
        first = self.path not in self.asked
        self.asked.add(self.path)
        body = json.dumps({"path": self.path}).encode()
        self.send_response(503 if first and self.path == "/flaky" else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with heavy():
        made = Mesh(tmp_path_factory.mktemp("page") / "home", None)
        made._env["BEND_HTTP_ALLOW"] = "127.0.0.0/8"
        made.up()
        try:
            yield made
        finally:
            made.down()


@pytest.fixture(scope="module")
def rest(mesh: Mesh) -> Iterator[httpx.Client]:
    context = ssl.create_default_context(cafile=str(mesh.home / "certs" / "ca.pem"))
    headers = {"authorization": f"Bearer {mesh.bend('token').strip()}"}
    url = mesh.status()["urls"]["https"]
    with httpx.Client(base_url=url, verify=context, headers=headers, timeout=60) as client:
        child = EXAMPLES["double.yaml"].document
        yaml = {"content-type": "application/yaml"}
        stored = client.post("/v1/workflows", content=child, headers=yaml)
        assert stored.status_code == 200, stored.text
        yield client


def shown(rest: httpx.Client, execution: str) -> dict[str, Any]:
    """Return an execution."""
    answer = rest.get(f"/v1/executions/{execution}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def pending(rest: httpx.Client, execution: str) -> list[str]:
    """Return the ids of an execution's pending approvals."""
    listed = rest.get("/v1/approvals").json()["approvals"]
    return [one["approval_id"] for one in listed if one["execution_id"] == execution]


def answer(rest: httpx.Client, execution: str, example: Example) -> None:
    """Give the signals and the decisions of an example."""
    for signal in example.signals:
        path = f"/v1/executions/{execution}:signal"
        sent = rest.post(path, json={"name": signal.name, "payload": signal.payload})
        assert sent.status_code == 200, sent.text
    for decision in example.decisions:
        wait_until(lambda: bool(pending(rest, execution)), "an approval is pending", WITHIN_S)
        (id_,) = pending(rest, execution)
        body = {"approved": decision.approved, "data": decision.data}
        decided = rest.post(f"/v1/approvals/{id_}:decide", json=body)
        assert decided.status_code == 200, decided.text


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
def test_an_example_runs(
    mesh: Mesh, rest: httpx.Client, address: str, tmp_path: Path, example: Example
) -> None:
    path = tmp_path / example.title
    path.write_text(example.document)
    given = tmp_path / "input.json"
    given.write_text(json.dumps(example.input).replace("$HTTP", address))
    started = mesh.bend("run", str(path), "--input", str(given), "--detach", "--json")
    execution = json.loads(started)["execution_id"]
    answer(rest, execution, example)
    wait_until(lambda: shown(rest, execution)["status"] in ENDED, f"{example.title} ends", WITHIN_S)
    done = shown(rest, execution)
    assert done["status"] == example.ends, done
    if example.output is not None:
        assert done["output"] == example.output
