"""`bend run` and `bend wait`: what is stored, what is started, what comes out, with which code."""

from pathlib import Path

import grpc
import orjson
import pytest

from bend.v1 import engine_service_pb2 as pb
from bend.v1 import execution_pb2, failure_pb2, workflow_pb2
from tests.kit.command_line import CommandLine
from tests.kit.fakes.engine import FakeEngine, Refusal
from tests.kit.stories import execution, task, whole_story

DOCUMENT = """\
name: flow
input:
  type: object
  properties:
    word: {type: string}
    count: {type: integer}
    flags: {type: array}
tasks: []
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "flow.yaml"
    path.write_text(DOCUMENT)
    return str(path)


def script(engine: FakeEngine, done: execution_pb2.Execution, *, created: bool = True) -> None:
    stored = workflow_pb2.Workflow(name="flow", revision=2)
    engine.script["UpdateWorkflow"] = [pb.UpdateWorkflowResponse(workflow=stored, created=created)]
    engine.script["GetWorkflow"] = [
        pb.GetWorkflowResponse(
            workflow=stored,
            revision=workflow_pb2.WorkflowRevision(
                revision=2, document=b'{"input":{"properties":{"word":{"type":"string"}}}}'
            ),
        )
    ]
    engine.script["StartExecution"] = [
        pb.StartExecutionResponse(execution=execution("PENDING"), created=True)
    ]
    engine.script["WaitExecution"] = [pb.WaitExecutionResponse(execution=done)]
    engine.script["GetExecution"] = [
        pb.GetExecutionResponse(
            execution=done, tasks=[task("a", output=b"1"), task("b", "SKIPPED")]
        )
    ]
    engine.script["WatchExecution"] = [whole_story()]


def test_a_file_is_stored_run_and_its_output_printed(
    engine: FakeEngine, bend: CommandLine, file: str
) -> None:
    script(engine, execution(output=b'{"total":12345678901234567890123}'))
    done = bend("run", file, "-p", "word=7", "-p", "count=7", "-p", 'flags=["x"]', "-p", "more=x y")
    assert done.code == 0
    assert "stored flow revision 2" in done.err
    assert "completed flow-1 in 1.2 s" in done.err
    start = engine.requests["StartExecution"][0].start
    assert start.revision == 2
    assert orjson.loads(start.parameters) == {
        "word": "7",
        "count": 7,
        "flags": ["x"],
        "more": "x y",
    }


def test_an_unchanged_file_says_nothing(engine: FakeEngine, bend: CommandLine, file: str) -> None:
    script(engine, execution(output=b"1"), created=False)
    done = bend("run", file)
    assert (done.code, done.out) == (0, "1\n")
    assert "stored" not in done.err


def test_a_name_asks_for_the_schema_only_when_needed(engine: FakeEngine, bend: CommandLine) -> None:
    script(engine, execution(output=b"1"))
    assert bend("run", "flow").code == 0
    assert not engine.requests["GetWorkflow"]
    assert bend("run", "flow", "-p", "word=1").code == 0
    assert orjson.loads(engine.requests["StartExecution"][1].start.parameters) == {"word": "1"}
    assert not engine.requests["UpdateWorkflow"]


def test_input_comes_from_stdin_and_p_wins(engine: FakeEngine, bend: CommandLine) -> None:
    script(engine, execution(output=b"1"))
    done = bend("run", "flow", "--input", "-", "-p", "a=2", stdin='{"a": 1, "b": [1]}')
    assert done.code == 0
    parameters = engine.requests["StartExecution"][0].start.parameters
    assert orjson.loads(parameters) == {"a": 2, "b": [1]}


def test_parameters_keep_their_digits(engine: FakeEngine, bend: CommandLine) -> None:
    script(engine, execution(output=b"1"))
    given = '{"big": 12345678901234567890123}'
    assert bend("run", "flow", "--input", "-", "-p", f"more={given}", stdin=given).code == 0
    assert engine.requests["StartExecution"][0].start.parameters == (
        b'{"big":12345678901234567890123,"more":{"big":12345678901234567890123}}'
    )


@pytest.mark.parametrize(
    ("stdin", "told"),
    [
        ('{"a": 1,\n "b": }', "standard input:2:7: not JSON"),
        ('{"a": 1, "a": 2}', "key 'a' stands there twice"),
        ("a: 1\nb: 2\na: 3\n", "standard input:3:1: not YAML: key 'a' stands here twice"),
        ("a: [1\n", "standard input:2:1: not YAML"),
        ('{"a": NaN}', "NaN is no JSON number"),
        ("[1]", "must be an object"),
        ("[" * 100_000, "standard input"),
    ],
)
def test_wrong_input_is_told_with_its_place(
    engine: FakeEngine, bend: CommandLine, stdin: str, told: str
) -> None:
    done = bend("run", "flow", "--input", "-", stdin=stdin)
    assert done.code == 2
    assert told in done.err
    assert "Traceback" not in done.err
    assert not engine.requests["StartExecution"]


def test_a_folder_is_no_workflow(bend: CommandLine, tmp_path: Path) -> None:
    done = bend("run", str(tmp_path))
    assert (done.code, f"{tmp_path}: is a folder" in done.err) == (2, True)


def test_json_is_the_documented_shape(engine: FakeEngine, bend: CommandLine) -> None:
    script(engine, execution(output=b'{"total":1}'))
    done = bend("run", "flow", "--json")
    assert done.code == 0
    assert done.json == {
        "execution_id": "flow-1",
        "workflow": "flow",
        "revision": 2,
        "run": 1,
        "status": "COMPLETED",
        "output": {"total": 1},
        "error": None,
        "started_at": "2026-01-01T00:00:00.000Z",
        "finished_at": "2026-01-01T00:00:01.250Z",
        "duration_ms": 1250,
        "tasks": {
            "a": {"status": "COMPLETED", "attempt": 1, "output": 1, "error": None},
            "b": {"status": "SKIPPED", "attempt": 1, "output": None, "error": None},
        },
    }


def test_integers_keep_their_digits(engine: FakeEngine, bend: CommandLine) -> None:
    script(engine, execution(output=b'{"n":12345678901234567890123}'))
    assert '"n":12345678901234567890123' in bend("run", "flow", "--json").out
    assert "12345678901234567890123" in bend("run", "flow").out


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        ("FAILED", 1, "failed flow-1 after 1.2 s: fetch: HTTP_503: busy"),
        ("TIMED_OUT", 1, "timed out flow-1"),
        ("CANCELLED", 7, "cancelled flow-1"),
    ],
)
def test_exit_codes_tell_how_it_ended(
    engine: FakeEngine, bend: CommandLine, status: str, code: int, said: str
) -> None:
    failure = failure_pb2.Failure(reason="HTTP_503", message="busy", task="fetch")
    script(engine, execution(status, error=failure))
    done = bend("run", "flow")
    assert done.code == code
    assert said in done.err
    assert done.out == ""


def test_a_wait_that_is_too_long_is_code_8_and_says_why(
    engine: FakeEngine, bend: CommandLine
) -> None:
    script(engine, execution("RUNNING", waiting=["detect: no instance of vision.detect@2"]))
    done = bend("run", "flow", "--timeout", "10ms")
    assert done.code == 8
    assert "still running" in done.err
    assert "no instance of vision.detect@2" in done.err


def test_detach_prints_the_id(engine: FakeEngine, bend: CommandLine) -> None:
    script(engine, execution())
    done = bend("run", "flow", "--detach", "--request-id", "r1", "--label", "team=a")
    assert (done.code, done.out) == (0, "flow-1\n")
    start = engine.requests["StartExecution"][0].start
    assert start.request_id == "r1"
    assert dict(start.labels) == {"team": "a"}


def test_watch_in_a_pipe_is_a_line_per_change(engine: FakeEngine, bend: CommandLine) -> None:
    script(engine, execution(output=b'{"a":1}'))
    done = bend("run", "flow", "--watch")
    assert done.code == 0
    told = [line[9:] for line in done.lines[:8]]
    assert told == [
        "flow-1 2 tasks",
        "flow-1 running",
        "a running",
        'a partial #1: {"page":1}',
        "a log: half way",
        "a completed (attempt 2) in 0 ms - 1 partial output",
        "b skipped",
        "flow-1 completed",
    ]
    assert orjson.loads("\n".join(done.lines[8:])) == {"a": 1}
    assert "\x1b" not in done.out


def test_watch_json_is_a_line_per_event(engine: FakeEngine, bend: CommandLine) -> None:
    script(engine, execution())
    done = bend("run", "flow", "--watch", "--json")
    events = [orjson.loads(line) for line in done.lines]
    assert [one["type"] for one in events] == [
        "execution",
        "task",
        "partial",
        "log",
        "task",
        "task",
        "execution",
    ]
    assert [one["terminal"] for one in events] == [False] * 6 + [True]
    assert events[2]["data"] == {"page": 1}
    assert {one["execution_id"] for one in events} == {"flow-1"}


def test_a_payload_over_several_lines_is_one_line_of_output(
    engine: FakeEngine, bend: CommandLine
) -> None:
    script(engine, execution())
    story = whole_story()
    story[2].event.data = b'{\n  "page":\r\n 1}'
    engine.script["WatchExecution"] = [story]
    done = bend("run", "flow", "--watch", "--json")
    assert len(done.lines) == len(story)
    assert orjson.loads(done.lines[2])["data"] == {"page": 1}


def test_a_wrong_document_names_file_line_and_column(
    engine: FakeEngine, bend: CommandLine, file: str
) -> None:
    engine.script["UpdateWorkflow"] = [
        Refusal(
            grpc.StatusCode.INVALID_ARGUMENT,
            "8:3",
            "INVALID_DOCUMENT",
            {},
            [("tasks[0].tpye", "8:3: unknown key tpye", "UNKNOWN_KEY"), ("", "a -> a", "CYCLE")],
        )
    ]
    done = bend("run", file)
    assert done.code == 3
    assert done.err.splitlines() == [
        f"{file}:8:3: UNKNOWN_KEY: unknown key tpye (tasks[0].tpye)",
        f"{file}: CYCLE: a -> a",
    ]


@pytest.mark.parametrize(
    ("refusal", "code", "reason"),
    [
        (
            Refusal(grpc.StatusCode.NOT_FOUND, "no flow", "WORKFLOW_NOT_FOUND"),
            4,
            "WORKFLOW_NOT_FOUND",
        ),
        (Refusal(grpc.StatusCode.PERMISSION_DENIED, "no", "PERMISSION_DENIED"), 6, "PERMISSION"),
        (Refusal(grpc.StatusCode.FAILED_PRECONDITION, "no", "WORKFLOW_ARCHIVED"), 6, "ARCHIVED"),
        (Refusal(grpc.StatusCode.INVALID_ARGUMENT, "x", "INVALID_PARAMETERS"), 2, "PARAMETERS"),
        (Refusal(grpc.StatusCode.INTERNAL, "log id 7", "INTERNAL"), 6, "INTERNAL"),
    ],
)
def test_refusals_have_reason_and_code(
    engine: FakeEngine, bend: CommandLine, refusal: Refusal, code: int, reason: str
) -> None:
    engine.script["StartExecution"] = [refusal]
    done = bend("run", "flow")
    assert done.code == code
    assert reason in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("flow", "-p", "x"), "must look like key=value"),
        (("nowhere/flow.yaml",), "no such file"),
        (("flow", "--timeout", "soon"), "no duration"),
        (("flow", "--watch", "--detach"), "exclude each other"),
        (("flow", "--input", "/nonexistent"), "--input /nonexistent"),
        (("flow", "--frobnicate"), "No such option"),
    ],
)
def test_usage_errors_are_code_2(
    engine: FakeEngine, bend: CommandLine, arguments: tuple[str, ...], said: str
) -> None:
    script(engine, execution())
    done = bend("run", *arguments)
    assert done.code == 2
    assert said in done.err


def test_a_parameter_of_the_wrong_type_is_named(
    engine: FakeEngine, bend: CommandLine, file: str
) -> None:
    script(engine, execution())
    done = bend("run", file, "-p", "count=many")
    assert done.code == 2
    assert "-p count: must be integer, is 'many'" in done.err


def test_wait_takes_several_and_exits_like_the_first_that_failed(
    engine: FakeEngine, bend: CommandLine
) -> None:
    ends = [execution(), execution("CANCELLED"), execution("FAILED")]
    engine.script["WaitExecution"] = [pb.WaitExecutionResponse(execution=one) for one in ends]
    engine.script["GetExecution"] = [pb.GetExecutionResponse(execution=one) for one in ends]
    assert bend("wait", "flow-1", "flow-2", "flow-3").code == 7
