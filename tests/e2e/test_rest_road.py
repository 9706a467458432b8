"""REST on a real mesh: Envoy, engine, executor and the built-in components, from outside only."""

import json
import ssl
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import pytest

from bend_server.bench.lock import heavy
from bend_server.bench.mesh import Mesh
from tests.e2e.stand_in import DIGITS, Service, service

pytestmark = [pytest.mark.kill, pytest.mark.timeout(900)]
CALL = """
name: call
tasks:
  - {id: first, type: http, url: "{{input.url}}", retry: {initial: 10ms}}
  - {id: second, type: http, method: POST, url: "{{input.url}}", body: "{{first}}"}
"""
SLEEPER = """
name: sleeper
tasks:
  - {id: quick, type: http, url: "{{input.quick}}"}
  - {id: slow, type: http, url: "{{input.slow}}", depends_on: [quick]}
"""
INFER = """
name: infer
tasks:
  - {id: score, type: model, script: magika, body: {features: "{{input.features}}"}}
"""


@pytest.fixture(scope="module", name="service")
def stand_in() -> Iterator[str]:
    with service() as address:
        yield address


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with heavy():
        made = Mesh(tmp_path_factory.mktemp("rest") / "home", None)
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
        for document in (CALL, SLEEPER, INFER):
            stored = client.post(
                "/v1/workflows", content=document, headers={"content-type": "application/yaml"}
            )
            assert stored.status_code == 200, stored.text
        yield client


def run(rest: httpx.Client, workflow: str, **parameters: Any) -> dict[str, Any]:
    answer = rest.post("/v1/run", json={"workflow": workflow, "parameters": parameters})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def reason(answer: httpx.Response) -> str:
    return str(answer.json()["details"][0]["reason"])


def test_digits_and_text_survive_the_whole_road(rest: httpx.Client, service: str) -> None:
    done = run(rest, "call", url=f"{service}/json")
    assert done["status"] == "completed"
    assert done["output"] == {"second": json.loads(DIGITS)}
    shown = rest.get(f"/v1/executions/{done['workflow_id']}").json()
    assert shown["tasks"]["first"]["output"]["id"] == 12345678901234567890123


def test_large_outputs_travel(rest: httpx.Client, service: str) -> None:
    done = run(rest, "call", url=f"{service}/large")
    assert done["status"] == "completed"
    assert len(done["output"]["second"]["x"]) == 6_000_000
    assert done["task_results"]["first"]["output"] == done["output"]["second"]


def test_a_busy_service_is_called_again(rest: httpx.Client, service: str) -> None:
    done = run(rest, "call", url=f"{service}/flaky/1")
    assert done["status"] == "completed"
    tasks = rest.get(f"/v1/executions/{done['workflow_id']}/tasks").json()["tasks"]
    assert [(task["task"], task["attempt"]) for task in tasks] == [("first", 2), ("second", 1)]


def events(lines: Iterator[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read server-sent events: (id, data)."""
    mark = ""
    for line in lines:
        if line.startswith("id: "):
            mark = line[4:]
        elif line.startswith("data: "):
            yield mark, json.loads(line[6:])


def test_a_browser_resumes_a_stream_where_it_was(rest: httpx.Client, service: str) -> None:
    Service.released.clear()
    started = rest.post(
        "/v1/executions",
        json={
            "workflow": "sleeper",
            "parameters": {"quick": f"{service}/json", "slow": f"{service}/held"},
        },
    ).json()
    watch = f"/v1/executions/{started['execution_id']}:watch"
    accept = {"accept": "text/event-stream"}
    seen: list[str] = []
    with rest.stream("GET", watch, headers=accept) as stream:
        assert stream.headers["content-type"] == "text/event-stream"
        for mark, event in events(stream.iter_lines()):
            seen.append(f"{event['type']} {event['task']} {event['status']}")
            if event["task"] == "quick" and event["status"] == "COMPLETED":
                last = mark
                break
    Service.released.set()
    with rest.stream("GET", watch, headers={**accept, "last-event-id": last}) as stream:
        found = [event for _, event in events(stream.iter_lines())]
    seen += [f"{event['type']} {event['task']} {event['status']}" for event in found]
    ended = [word for word in seen if "COMPLETED" in word]
    assert ended == ["task quick COMPLETED", "task slow COMPLETED", "execution  COMPLETED"]
    assert [event["terminal"] for event in found][-1] is True
    assert sum(event["terminal"] for event in found) == 1


def test_the_customers_path_cancels(rest: httpx.Client, service: str) -> None:
    Service.released.clear()
    parameters = {"quick": f"{service}/held/a", "slow": f"{service}/held/b"}
    started = rest.post("/v1/executions", json={"workflow": "sleeper", "parameters": parameters})
    name = started.json()["execution_id"]
    active = [
        entry["execution_id"] for entry in rest.get("/v1/executions/active").json()["executions"]
    ]
    assert name in active
    answer = rest.post(f"/v1/cancel/{name}", json={"reason": "False positive detected"})
    assert answer.status_code == 200
    done = rest.get(f"/v1/executions/{name}:wait").json()
    assert done["status"] == "CANCELLED"
    Service.released.set()


def test_a_real_model_answers(mesh: Mesh, rest: httpx.Client) -> None:
    model = Path(str(files("magika"))) / "models" / "standard_v3_3" / "model.onnx"
    target = mesh.home / "models" / "magika" / "1"
    target.mkdir(parents=True, exist_ok=True)
    (target / "model.onnx").write_bytes(model.read_bytes())
    done = run(rest, "infer", features=[65] * 2048)
    assert done["status"] == "completed", done["error"]
    assert len(done["output"]["score"]["target_label"]) == 214


@pytest.mark.parametrize(
    ("method", "path", "body", "code", "why"),
    [
        ("POST", "/v1/run", b'{"workflow": "nothing"}', 404, "WORKFLOW_NOT_FOUND"),
        ("POST", "/v1/run", b'{"workflow": "call", "x": 1}', 400, "INVALID_PARAMETERS"),
        ("POST", "/v1/run", b"{", 400, "INVALID_PARAMETERS"),
        ("POST", "/v1/workflows", b"name: [", 400, "INVALID_DOCUMENT"),
        ("GET", "/v1/executions/call-1", b"", 404, "EXECUTION_NOT_FOUND"),
        ("GET", "/v1/executions?page_token=xx", b"", 400, "INVALID_PAGE_TOKEN"),
        ("GET", "/v1/executions?nonsense=1", b"", 400, "INVALID_REQUEST"),
        ("GET", "/v1/nothing", b"", 404, "INVALID_REQUEST"),
    ],
)
def test_errors_have_their_code_and_reason(
    rest: httpx.Client, method: str, path: str, body: bytes, code: int, why: str
) -> None:
    answer = rest.request(method, path, content=body)
    assert answer.status_code == code, answer.text
    assert answer.headers["content-type"] == "application/json"
    if path != "/v1/nothing":
        assert reason(answer) == why


def test_who_proves_nothing_gets_nothing(mesh: Mesh, rest: httpx.Client) -> None:
    for headers in ({"authorization": ""}, {"authorization": "Bearer wrong"}):
        answer = rest.get("/v1/workflows", headers=headers)
        assert (answer.status_code, reason(answer)) == (401, "UNAUTHENTICATED")
    forged = {"authorization": "", "x-bend-peer": "spiffe://bend.local/user/eve"}
    assert rest.get("/v1/workflows", headers=forged).status_code == 401
    local = mesh.status()["urls"]["http"]
    assert httpx.get(f"{local}/v1/workflows").status_code == 200
    page = {"origin": "https://evil.example"}
    assert httpx.get(f"{local}/v1/workflows", headers=page).status_code in {401, 403}
    assert rest.get("/readyz", headers={"authorization": ""}).status_code == 200
    document = rest.get("/openapi.json", headers={"authorization": ""}).json()
    assert document["openapi"] == "3.1.0"
