"""What an execution waits for is said, with the command that lets it go on."""

import pytest

from bend.cli import guidance
from bend.models import Execution, TaskRun
from bend.v1 import engine_service_pb2 as pb
from tests.kit.command_line import CommandLine
from tests.kit.fakes.engine import FakeEngine
from tests.kit.stories import execution, task


@pytest.mark.parametrize(
    ("reason", "steps"),
    [
        ("look", ["go on: bend executions resume flow-1"]),
        (
            "TASK_FAILED",
            [
                "try again what failed: bend executions retry flow-1",
                "let it fail: bend executions resume flow-1",
            ],
        ),
        ("QUARANTINED", ["start it anew: bend executions rerun flow-1"]),
    ],
)
def test_a_paused_execution_names_its_commands(reason: str, steps: list[str]) -> None:
    assert guidance.steps_of(Execution("flow-1", status="PAUSED", pause_reason=reason)) == steps


def test_signals_and_approvals_name_their_commands() -> None:
    waits = (
        TaskRun("ask", "WAITING", waiting="approval Send it? until 2026-01-01T00:00:00Z"),
        TaskRun("go", "WAITING", item=2, waiting="signal green until 2026-01-01T00:00:00Z"),
        TaskRun("nap", "WAITING", waiting="timer until 2026-01-01T00:00:00Z"),
    )
    one = Execution("flow-1", status="RUNNING", tasks=waits)
    assert guidance.waits_of(one)[1] == "go[2]: signal green until 2026-01-01T00:00:00Z"
    assert guidance.steps_of(one) == [
        "decide: bend approvals list --execution flow-1",
        "send it: bend executions signal flow-1 green",
    ]


def test_run_tells_once_what_it_waits_for_and_goes_on(
    engine: FakeEngine, bend: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guidance, "FIRST_LOOK_S", 0.001)
    monkeypatch.setattr(guidance, "NEXT_LOOK_S", 0.001)
    stands, done = execution("RUNNING"), execution(output=b"1")
    ask = task("ask", "WAITING", waiting="approval Send it?")
    engine.script["StartExecution"] = [pb.StartExecutionResponse(execution=stands, created=True)]
    waits = [pb.WaitExecutionResponse(execution=one) for one in (stands, stands, done)]
    engine.script["WaitExecution"] = list(waits)
    shown = pb.GetExecutionResponse(execution=stands, tasks=[ask])
    engine.script["GetExecution"] = [shown, shown, pb.GetExecutionResponse(execution=done)]
    ended = bend("run", "flow")
    assert (ended.code, ended.out) == (0, "1\n")
    assert ended.err.count("ask: approval Send it?") == 1
    assert ended.err.count("decide: bend approvals list --execution flow-1") == 1
