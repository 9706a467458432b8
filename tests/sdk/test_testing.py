"""`bend.testing`: what an author's tests rely on. Retries of hours pass at once, threads do not."""

import asyncio
import subprocess
import sys
import time
from typing import Any

import pytest

from bend import Context, RetryableError, component
from bend.errors import BendError, InvalidDocument, InvalidParameters
from bend.testing import SyncTestEngine, TestEngine

GREET: dict[str, Any] = {
    "name": "greet",
    "input": {"type": "object", "required": ["who"], "properties": {"who": {"type": "string"}}},
    "tasks": [{"id": "say", "type": "kit.say", "who": "{{input.who}}"}],
    "output": {"text": "{{say.text}}"},
}


@component("kit.say")
async def say(who: str, context: Context) -> dict[str, str]:
    context.log(f"saying to {who}")
    return {"text": f"Hello {who}, try {context.attempt}"}


class Flaky:
    """Fails twice."""

    def __init__(self) -> None:
        self.calls = 0

    @component("kit.flaky")
    def run(self) -> int:
        self.calls += 1
        if self.calls < 3:
            raise RetryableError("BUSY", "not now")
        return self.calls


@component("kit.slow")
def slow(seconds: float) -> str:
    time.sleep(seconds)
    return "done"


def retried(kind: str, **fields: Any) -> dict[str, Any]:
    policy = {"max_attempts": 5, "initial": "30m", "max": "30m", "jitter": False}
    return {"name": "retried", "tasks": [{"id": "a", "type": kind, "retry": policy, **fields}]}


def test_a_workflow_runs_to_its_end() -> None:
    with SyncTestEngine([say]) as engine:
        done = engine.run(GREET, {"who": "Ada"})
        assert (done.status, done.output) == ("COMPLETED", {"text": "Hello Ada, try 1"})
        assert [task.task for task in done.tasks] == ["say"]
        again = engine.run(GREET, {"who": "Bob"})
        assert again.output == {"text": "Hello Bob, try 1"}
        assert again.execution_id != done.execution_id


def test_it_runs_inside_a_loop_too() -> None:
    async def main() -> None:
        async with TestEngine([say]) as engine:
            runs = [engine.run(GREET, {"who": str(n)}) for n in range(20)]
            done = await asyncio.gather(*runs)
            assert [one.output["text"] for one in done] == [f"Hello {n}, try 1" for n in range(20)]
            stored = await engine.call("list_workflows")
            assert [one.name for one in stored] == ["greet"]

    asyncio.run(main())


def test_hours_of_backoff_are_skipped() -> None:
    flaky = Flaky()
    with SyncTestEngine([flaky.run]) as engine:
        done = engine.run(retried("kit.flaky"))
    assert (done.status, flaky.calls) == ("COMPLETED", 3)
    assert done.duration_ms >= 3_600_000


def test_waits_are_skipped_and_real_time_is_not() -> None:
    document = {"name": "rest", "tasks": [{"id": "w", "type": "wait", "duration": "1h"}]}
    with SyncTestEngine() as engine:
        assert engine.run(document).status == "COMPLETED"
    with SyncTestEngine(time="real") as engine:
        still = engine.run(document, timeout=0.2)
        assert still.status == "RUNNING"


def test_time_does_not_run_away_from_a_thread_that_works() -> None:
    """Skipped under it, the attempt would time out after no time at all."""
    with SyncTestEngine([slow]) as engine:
        task = {"id": "a", "type": "kit.slow", "seconds": 0.3, "timeout": "30s"}
        done = engine.run({"name": "slow", "tasks": [task], "output": {"a": "{{a}}"}})
    assert (done.status, done.output) == ("COMPLETED", {"a": "done"})


def test_mocks_stand_in_for_other_components() -> None:
    asked: list[dict[str, Any]] = []

    def http(**values: Any) -> dict[str, Any]:
        asked.append(values)
        return {"price": 3}

    document = {
        "name": "shop",
        "tasks": [
            {"id": "ask", "type": "http", "url": "https://shop.example/1"},
            {"id": "mail", "type": "mail.send", "price": "{{ask.price}}"},
        ],
        "output": {"sent": "{{mail.sent}}", "price": "{{ask.price}}"},
    }
    with SyncTestEngine(mocks={"http": http, "mail.send@2.1.0": {"sent": True}}) as engine:
        assert engine.run(document).output == {"sent": True, "price": 3}
        (mail,) = engine.call("list_components", query="mail")
        assert mail.version == "2.1.0"
    assert asked == [{"url": "https://shop.example/1"}]


def test_secrets_are_filled_and_scrubbed() -> None:
    seen: list[str] = []

    def keep(**values: Any) -> str:
        seen.append(values["key"])
        return f"used {values['key']}"

    document = {
        "name": "keys",
        "tasks": [{"id": "a", "type": "kit.keep", "key": "{{secrets.KEY}}"}],
        "output": {"a": "{{a}}"},
    }
    with SyncTestEngine(mocks={"kit.keep": keep}, secrets={"KEY": "hunter2hunter2"}) as engine:
        assert engine.run(document).output == {"a": "used ***"}
    assert seen == ["hunter2hunter2"]


def test_a_signal_can_be_sent_while_a_run_waits() -> None:
    document = {
        "name": "asked",
        "tasks": [{"id": "s", "type": "signal", "name": "go"}],
        "output": {"s": "{{s.n}}"},
    }
    with SyncTestEngine() as engine:
        engine.call("deploy", document)
        started = engine.call("start", "asked", {})
        engine.call("signal", started.execution_id, "go", {"n": 4})
        done = engine.call("wait", started.execution_id)
        assert done.output == {"s": 4}


def test_failures_come_back_and_mistakes_are_raised() -> None:
    with SyncTestEngine([say]) as engine:
        wrong = {**GREET, "tasks": [{"id": "say", "type": "kit.say", "whom": 3}]}
        with pytest.raises(InvalidDocument):
            engine.run(wrong)
        with pytest.raises(InvalidParameters):
            engine.run(GREET, {"who": 3})
        assert engine.run(GREET, {"who": "Ada"}).status == "COMPLETED"
    failing = Flaky()
    with SyncTestEngine([failing.run]) as engine:
        task = {"id": "a", "type": "kit.flaky", "retry": {"max_attempts": 1}}
        done = engine.run({"name": "once", "tasks": [task]})
        assert done.status == "FAILED"
        assert done.error is not None
        assert done.error.reason == "BUSY"


def test_components_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(BendError), SyncTestEngine([say, say]):
        pass


def test_without_the_server_it_says_what_to_install() -> None:
    """The SDK alone may import it."""
    code = (
        "import sys; sys.modules['bend_server'] = None\n"
        "import bend.testing\n"
        "try: bend.testing.SyncTestEngine()\n"
        "except bend.BendError as error: print(error.reason, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.startswith("SERVER_MISSING")
    assert "bend[server]" in done.stdout
