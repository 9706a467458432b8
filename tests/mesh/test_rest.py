"""REST through a real Envoy: raw bodies both ways, streams, errors in one shape."""

import json

import httpx
import pytest

from tests.kit.programs import wait_until
from tests.mesh import early_answers
from tests.mesh.backend import Backend
from tests.mesh.doors import Gateway

YAML = {"content-type": "application/yaml"}
JSON = {"content-type": "application/json"}


def reason(response: httpx.Response) -> tuple[int, str]:
    """Return gRPC code and ErrorInfo reason of an error answer, whose shape is checked."""
    assert response.headers["content-type"].startswith("application/json"), response.text
    error = response.json()
    assert set(error) == {"code", "message", "details"}
    assert error["message"]
    [info] = error["details"]
    assert info["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"
    assert info["domain"] == "bend.v1"
    return error["code"], info["reason"]


@pytest.mark.parametrize(
    ("body", "headers"), [("name: a\n", YAML), ('{"name": 123456789012345678901}', JSON)]
)
def test_document_arrives_as_it_was_sent(door: Gateway, body: str, headers: dict[str, str]) -> None:
    with door.plain() as client:
        answer = client.post("/v1/workflows", content=body, headers=headers)
    assert answer.status_code == 200
    workflow = answer.json()["workflow"]
    assert (workflow["description"], workflow["name"]) == (body, headers["content-type"])


def test_document_beside_a_path_parameter(door: Gateway) -> None:
    with door.plain() as client:
        answer = client.put("/v1/workflows/a%2Fb", content=b"x: 1", headers=YAML)
    workflow = answer.json()["workflow"]
    assert (workflow["name"], workflow["description"]) == ("a/b", "x: 1")


def test_answer_leaves_as_the_server_wrote_it(door: Gateway) -> None:
    body = b'{"n": 123456789012345678901234567890, "spaces":   1}'
    with door.plain() as client:
        answer = client.post("/v1/run", content=body, headers=JSON)
    assert answer.content == body
    assert answer.headers["content-type"] == "application/json"


def test_messages_print_every_field_under_its_proto_name(door: Gateway) -> None:
    with door.plain() as client:
        answer = client.get("/v1/workflows", params={"page_size": 7}).json()
    assert answer["next_page_token"] == ""
    assert answer["workflows"][0]["name"] == "size 7"
    assert answer["workflows"][0]["task_count"] == 0


def test_custom_verbs_and_second_path(door: Gateway) -> None:
    with door.plain() as client:
        first = client.post("/v1/executions/e-1:cancel", json={"reason": "!"})
        second = client.post("/v1/cancel/e-1")
    assert first.json() == {"execution_id": "e-1!", "status": "CANCELLED"}
    assert second.json() == {"execution_id": "e-1", "status": "CANCELLED"}


@pytest.mark.parametrize(
    ("accept", "kind", "first"),
    [
        (
            "text/event-stream",
            "text/event-stream",
            b'id: 1\ndata: {"cursor": "1", "from": "c"}\n\n',
        ),
        ("*/*", "application/x-ndjson", b'{"cursor": "1", "from": "c"}\n'),
    ],
)
def test_watch_streams_each_event_when_it_happens(
    door: Gateway, service: Backend, accept: str, kind: str, first: bytes
) -> None:
    service.engine.proceed.clear()
    with (
        door.plain() as client,
        client.stream(
            "GET", "/v1/executions/e:watch?cursor=c", headers={"accept": accept}
        ) as answer,
    ):
        assert answer.headers["content-type"] == kind
        chunks = answer.iter_raw()
        # The backend waits: this one cannot have come with the next.
        assert next(chunks) == first
        service.engine.proceed.set()
        assert b'"cursor": "2"' in b"".join(chunks)


def test_watcher_that_goes_away_ends_the_servers_call(door: Gateway, service: Backend) -> None:
    service.engine.proceed.clear()
    service.engine.cancelled.clear()
    with door.plain() as client, client.stream("GET", "/v1/executions/e:watch") as answer:
        next(answer.iter_raw())
    wait_until(service.engine.cancelled.is_set, what="the call is cancelled")
    service.engine.proceed.set()


def test_last_event_id_reaches_the_server(door: Gateway) -> None:
    with door.plain() as client:
        seen = client.get("/v1/workflows/w", headers={"last-event-id": "17"}).json()
    assert seen["last-event-id"] == "17"
    assert seen["x-envoy-original-path"] == "/v1/workflows/w"


def test_servers_error_keeps_its_details(door: Gateway) -> None:
    with door.plain() as client:
        answer = client.get("/v1/executions/e-9")
    assert answer.status_code == 404
    assert reason(answer) == (5, "EXECUTION_NOT_FOUND")
    assert answer.json()["details"][0]["metadata"] == {"execution_id": "e-9"}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/nothing/here", None, 404, 5),
        ("GET", "/v1/nothing", None, 404, 5),
        ("PATCH", "/v1/workflows", b"{}", 404, 5),
        ("GET", "/v1/workflows?bogus=1", None, 400, 3),
        ("GET", "/v1/workflows?page_size=many", None, 400, 3),
        ("POST", "/v1/cancel/e", b"{not json", 400, 3),
        ("GET", "/v1/workflows/a%00b", None, 400, 3),
    ],
)
def test_gateways_own_errors_have_the_same_shape(
    door: Gateway, method: str, path: str, body: bytes | None, status: int, code: int
) -> None:
    with door.plain() as client:
        answer = client.request(method, path, content=body)
    assert answer.status_code == status
    assert reason(answer) == (code, "INVALID_REQUEST")


@pytest.mark.parametrize("http2", [False, True])
def test_bodies_up_to_a_whole_document(door: Gateway, http2: bool) -> None:
    """The limit is 8 MiB of document; over HTTP/2 a small window must not lower it."""
    with door.client("user-ada", http2=http2) as client:
        fits = client.post("/v1/workflows", content=b"x" * (8 << 20), headers=YAML)
        if not http2:
            over = client.post("/v1/workflows", content=b"x" * (10 << 20), headers=YAML)
    if http2:
        over = early_answers.post(
            door.settings.https_port,
            door.context("user-ada"),
            "/v1/workflows",
            b"x" * (10 << 20),
            YAML,
        )
    assert fits.json()["workflow"]["revision"] == 8 << 20
    assert over.status_code == 413
    assert reason(over) == (8, "TOO_LARGE")
    assert str(9 << 20) in over.json()["message"]


def test_a_foreign_host_name_is_told_what_the_door_is_called(door: Gateway) -> None:
    with door.plain() as client:
        answer = client.get("/v1/workflows", headers={"host": "evil.example"})
    assert (answer.status_code, reason(answer)) == (404, (5, "INVALID_REQUEST"))
    assert "localhost" in answer.json()["message"]


def test_health_is_the_gateways_readiness_the_servers(door: Gateway, service: Backend) -> None:
    with door.plain() as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        assert client.get("/readyz").json() == {"ready": True}
        service.set_serving(False)
        try:
            wait_until(lambda: client.get("/readyz").status_code == 503, what="taken out")
            answer = client.get("/v1/workflows")
            assert (answer.status_code, reason(answer)) == (503, (14, "DEPENDENCY_DOWN"))
            assert client.get("/healthz").status_code == 200
        finally:
            service.set_serving(True)
        wait_until(lambda: client.get("/readyz").status_code == 200, what="taken back")


def test_answers_say_their_request_id(door: Gateway) -> None:
    with door.plain() as client:
        answer = client.get("/v1/nothing", headers={"x-request-id": "mine-1"})
    assert answer.headers["x-request-id"] == "mine-1"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert json.loads(answer.content)["details"][0]["metadata"]["origin"] == "gateway"
