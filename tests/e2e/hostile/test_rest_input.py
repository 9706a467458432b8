"""Bad input over REST: the right status, a reason, and a text that names place and cause."""

import contextlib
from typing import Any

import httpx
import pytest

from tests.e2e.hostile.house import House

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]

JSON, YAML = {"content-type": "application/json"}, {"content-type": "application/yaml"}
MIB = 1024 * 1024
STEP = {"id": "a", "type": "hostile.step", "value": 1}
DOCUMENT: dict[str, Any] = {"name": "fine", "tasks": [STEP]}


def deep(levels: int) -> bytes:
    """Return nested lists."""
    return b"[" * levels + b"]" * levels


def told(answer: httpx.Response) -> dict[str, Any]:
    """Return an error's ErrorInfo metadata, its reason and text beside; its shape is checked."""
    assert answer.headers["content-type"].startswith("application/json")
    error = answer.json()
    assert set(error) == {"code", "message", "details"}
    assert error["message"]
    assert "Traceback" not in answer.text
    info = error["details"][0]
    assert info["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"
    assert info["domain"] == "bend.v1"
    return {**info["metadata"], "reason": info["reason"], "message": error["message"]}


DOCUMENTS: dict[str, tuple[bytes, dict[str, str], str]] = {
    "nothing": (b"", JSON, "1:1: SYNTAX"),
    "malformed JSON": (b'{"name": ', JSON, "1:10: SYNTAX"),
    "malformed YAML": (b"name: [a\nb: c", YAML, "2:2: SYNTAX"),
    "a key twice, JSON": (b'{"name":"a","name":"b"}', JSON, "1:13: DUPLICATE_KEY"),
    "a key twice, YAML": (b"name: a\nname: b\n", YAML, "2:1: DUPLICATE_KEY"),
    "an unknown key": (b"name: a\nnmae: b\ntasks: []\n", YAML, "2:1: UNKNOWN_KEY"),
    "a wrong type": (b"name: 5\ntasks: []\n", YAML, "1:7: WRONG_TYPE"),
    "not UTF-8": (b'{"name":"\xff\xfe"}', JSON, "1:10: BAD_ENCODING"),
    "not UTF-8 in YAML": (b"name: \xff\xfe", YAML, "1:7: BAD_ENCODING"),
    "UTF-16": ("name: a".encode("utf-16"), YAML, "1:1: BAD_ENCODING"),
    "gzip": (b"\x1f\x8b\x08\x00abc", JSON, "1:2: BAD_ENCODING"),
    "deep JSON": (deep(100_000), JSON, "TOO_DEEP"),
    "deep YAML": (b"[" * 100_000, YAML, "TOO_DEEP"),
    "a hostile name": (b"name: ../../etc/passwd\ntasks: []\n", YAML, "1:7: BAD_NAME"),
    "a cycle": (
        b"name: a\ntasks:\n- {id: x, type: hostile.step, value: 1, depends_on: [y]}\n"
        b"- {id: y, type: hostile.step, value: 1, depends_on: [x]}\n",
        YAML,
        "CYCLE",
    ),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_wrong_document_is_refused_with_its_place(house: House, name: str) -> None:
    content, headers, expected = DOCUMENTS[name]
    answer = house.rest.post("/v1/workflows", content=content, headers=headers)
    found = told(answer)
    assert (answer.status_code, found["reason"]) == (400, "INVALID_DOCUMENT")
    assert expected in found["message"]
    assert int(found["line"]) >= 1


def test_an_unknown_component_is_refused_at_creation(house: House) -> None:
    document = {"name": "fine", "tasks": [{"id": "a", "type": "nobody.here"}]}
    found = told(house.rest.post("/v1/workflows", json=document))
    assert (found["reason"], found["component"]) == ("UNKNOWN_COMPONENT", "nobody.here")
    assert found["path"] == "tasks[0].type"


STARTS: dict[str, tuple[bytes, str, str]] = {
    "nothing": (b"", "INVALID_PARAMETERS", "1:1"),
    "malformed": (b'{"workflow":', "INVALID_PARAMETERS", "1:13"),
    "a list": (b"[1]", "INVALID_PARAMETERS", "object"),
    "a key twice": (b'{"workflow":"w","workflow":"x"}', "INVALID_PARAMETERS", "1:17"),
    "a parameter twice": (
        b'{"workflow":"w","parameters":{"a":1,"a":2}}',
        "INVALID_PARAMETERS",
        "1:37",
    ),
    "an unknown key": (b'{"workflow":"w","parms":{}}', "INVALID_PARAMETERS", "parms"),
    "a wrong type": (b'{"workflow":["w"]}', "INVALID_PARAMETERS", "workflow"),
    "parameters as a list": (
        b'{"workflow":"hostile_chain","parameters":[]}',
        "INVALID_PARAMETERS",
        "object",
    ),
    "not UTF-8": (b'{"workflow":"w\xff"}', "INVALID_PARAMETERS", "1:15"),
    "deep": (
        b'{"workflow":"w","parameters":{"a":%b}}' % deep(10_000),
        "INVALID_PARAMETERS",
        "deeper",
    ),
    "NaN": (b'{"workflow":"w","parameters":{"a":NaN}}', "INVALID_PARAMETERS", "1:35"),
    "NUL": (b'{"workflow":"w","parameters":{"a":"\\u0000"}}', "INVALID_PARAMETERS", "NUL"),
    "half a pair": (b'{"workflow":"w","parameters":{"a":"\\ud800"}}', "INVALID_PARAMETERS", "1:35"),
    "no workflow": (b"{}", "INVALID_REQUEST", "workflow"),
    "a negative time": (
        b'{"workflow":"w","wait_timeout":"-5s"}',
        "INVALID_REQUEST",
        "wait_timeout",
    ),
    "an endless time": (b'{"workflow":"w","wait_timeout":"9h"}', "INVALID_REQUEST", "3600"),
    "a hostile id": (
        b'{"workflow":"w","execution_id":"../x"}',
        "INVALID_REQUEST",
        "execution_id",
    ),
    "a hostile name": (b'{"workflow":"../../etc/passwd"}', "WORKFLOW_NOT_FOUND", "etc/passwd"),
    "a label over its limit": (
        b'{"workflow":"w","labels":{"%b":"x"}}' % (b"k" * 64),
        "INVALID_REQUEST",
        "label",
    ),
    "too many labels": (
        b'{"workflow":"w","labels":{%b}}' % b",".join(b'"k%d":"x"' % n for n in range(65)),
        "INVALID_REQUEST",
        "labels",
    ),
}


@pytest.mark.parametrize("name", STARTS)
def test_a_wrong_start_is_refused_with_its_place(house: House, name: str) -> None:
    content, reason, expected = STARTS[name]
    answer = house.rest.post("/v1/run", content=content, headers=JSON)
    found = told(answer)
    assert (answer.status_code, found["reason"]) == (404 if "NOT_FOUND" in reason else 400, reason)
    assert expected in found["message"]


CALLS: list[tuple[str, str, int, str]] = [
    ("DELETE", "/v1/run", 404, "/v1/run"),
    ("PATCH", "/v1/workflows/w", 404, "/v1/workflows/w"),
    ("GET", "/v1/nothing", 404, "/v1/nothing"),
    ("GET", "/nothing", 404, "no such path"),
    ("POST", "/v1/executions/abc:explode", 404, "explode"),
    ("GET", "/v1/workflows?page_token=%21%21", 400, "page token"),
    ("GET", "/v1/executions?page_token=AAAA", 400, "page token"),
    ("GET", "/v1/workflows?page_size=-1", 400, "page_size"),
    ("GET", "/v1/workflows?page_size=abc", 400, "page_size"),
    ("GET", "/v1/workflows?nope=1", 400, "nope"),
    ("GET", "/v1/executions?statuses=NOPE", 400, "NOPE"),
    ("GET", "/v1/executions?label=abc", 400, "key=value"),
    ("GET", "/v1/workflows/..%2f..%2fetc%2fpasswd", 404, "etc/passwd"),
    ("GET", "/v1/workflows/../../etc/passwd", 404, "no such path"),
    ("GET", "/v1/workflows/a%00b", 400, "cannot be read"),
    ("GET", "/v1/workflows/%ff%fe", 400, "UTF-8"),
    ("GET", "/v1/workflows/" + "a" * 5000, 400, "128"),
    ("GET", "/v1/executions/nope", 404, "nope"),
    ("GET", "/v1/executions/nope:watch", 404, "nope"),
    ("GET", "/v1/executions/nope:wait", 404, "nope"),
    ("POST", "/v1/executions/nope:cancel", 404, "nope"),
    ("GET", "/v1/components/..%2f", 404, "../"),
]


@pytest.mark.parametrize(("method", "path", "status", "expected"), CALLS)
def test_a_wrong_call_is_refused(
    house: House, method: str, path: str, status: int, expected: str
) -> None:
    answer = house.rest.request(method, path, json={} if method == "POST" else None)
    assert answer.status_code == status
    assert expected in told(answer)["message"]


@pytest.mark.parametrize("cursor", ["zzz", "-1", "99999999999999999999", "%00", "AAAA"])
def test_a_cursor_of_nowhere_is_refused(house: House, cursor: str) -> None:
    house.deploy(DOCUMENT)
    execution = house.start("fine")
    house.ended(execution)
    answer = house.rest.get(f"/v1/executions/{execution}:watch?cursor={cursor}")
    assert (answer.status_code, told(answer)["reason"]) == (400, "INVALID_CURSOR")


@pytest.mark.parametrize(
    ("path", "size", "status"),
    [
        ("/v1/workflows", 8 * MIB + 1, 429),
        ("/v1/executions", 2 * MIB, 429),
        ("/v1/workflows", 20 * MIB, 413),
        ("/v1/executions", 20 * MIB, 413),
    ],
)
def test_what_is_too_large_is_told_the_limit(
    house: House, path: str, size: int, status: int
) -> None:
    content = b'{"name": "' + b"x" * (size - 12) + b'"}'
    answer = house.rest.post(path, content=content, headers=JSON)
    found = told(answer)
    assert (answer.status_code, found["reason"]) == (status, "TOO_LARGE")
    assert any(word.isdigit() and int(word) >= MIB for word in found["message"].split())


def test_headers_over_their_limit_are_refused(house: House) -> None:
    answer = house.rest.get("/v1/workflows", headers={"x-large": "a" * 70_000})
    assert (answer.status_code, told(answer)["reason"]) == (431, "TOO_LARGE")


def test_a_caller_that_hangs_up_in_its_body_harms_nobody(house: House) -> None:
    def half() -> Any:
        yield b'{"workflow": "fine", '
        raise ConnectionError("hung up")

    for _ in range(5):
        with contextlib.suppress(ConnectionError, httpx.HTTPError):
            house.rest.post("/v1/run", content=half(), headers=JSON)
    assert house.rest.get("/readyz").status_code == 200
    house.judge(house.start_load(5))
