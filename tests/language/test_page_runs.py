"""The examples of docs/language.md run to the end that they announce, on the core alone.

The engine's and the components' parts are played here; a real mesh runs the same examples in the
end-to-end tests.
"""

from typing import Any

import orjson
import pytest

from bend_server.core import machine
from bend_server.core.model import ITEM_NONE, Failure, TaskKind, TaskStatus
from bend_server.core.plan import Rendered, TaskPlan
from bend_server.core.scope import unit_scope
from bend_server.language import compile_document
from bend_server.language.durations import parse_duration
from tests.kit.examples import Example, examples
from tests.kit.machine_run import SECOND_US, Run
from tests.kit.plans import start_row

EXAMPLES = {one.title: one for one in examples()}
STEPS_MAX = 200
PAST_YEAR = "2020"


class Play:
    """One example on the core; a child workflow is a play of its own."""

    def __init__(self, example: Example, given: Any) -> None:
        self.example = example
        definition = compile_document(example.document.encode(), "application/yaml")
        parameters = definition.check_parameters(orjson.dumps(given))
        plan = definition.plan("default", 1, {})
        self.run = Run(plan, start_row(plan, input_=parameters))
        self._flaked: set[str] = set()

    def to_the_end(self) -> Run:
        """Do everybody's part until nothing is left to do."""
        for _ in range(STEPS_MAX):
            if self.run.finish is not None or self.run.ended == "PAUSED":
                break
            if not self._step():
                self.run.pass_time(1)
            self.run.check_replay()
        return self.run

    def _step(self) -> bool:
        """Do one thing for each unit with an open try; False when there was nothing."""
        acted = False
        for task in self.run.plan.tasks:
            fan = self.run.state.fan(task.index)
            for item in (ITEM_NONE,) if fan is None else range(fan.count):
                if self.run.state.open_try(task.index, item):
                    acted |= self._act(task, item)
        return acted

    def _act(self, task: TaskPlan, item: int) -> bool:
        run = self.run
        waiting = run.state.waiting(task.index, item)
        if waiting is None:
            rendered = task.render(unit_scope(run.state, task.index, item))
            if task.kind == TaskKind.COMPONENT:
                return self._component(task, item, rendered)
            said = orjson.loads(rendered.data)
            if task.kind == TaskKind.WORKFLOW:
                return self._child(task, item, said)
            assert str(said.get("until", PAST_YEAR)).startswith(PAST_YEAR)
            span_us = parse_duration(said.get("duration", said.get("timeout", "1ms"))) or 1
            name = said.get("name", "")
            return run.wait(task.id, item=item, seconds=span_us / SECOND_US, name=name)
        for signal in self.example.signals:
            if waiting.name == signal.name:
                run.signal(signal.name, orjson.dumps(signal.payload))
                return True
        for decision in self.example.decisions:
            if task.id == decision.task:
                data = orjson.dumps(decision.data)
                more = (waiting.try_, decision.approved, "", data, "ada")
                return bool(run.does(machine.decide_approval, task.index, item, *more))
        return False

    def _component(self, task: TaskPlan, item: int, rendered: Rendered) -> bool:
        assert task.component == "http"
        url = str(orjson.loads(rendered.data)["url"])
        if url.endswith("/flaky") and url not in self._flaked:
            self._flaked.add(url)
            return self.run.fail(task.id, "HTTP_503", retryable=True, item=item)
        return self.run.complete(task.id, orjson.dumps({"url": url}), item)

    def _child(self, task: TaskPlan, item: int, said: dict[str, Any]) -> bool:
        if self.run.state.child(task.index, item) is None:
            assert self.run.child(task.id, item=item)
        example = EXAMPLES[said["workflow"].replace("_", "-") + ".yaml"]
        child = Play(example, said.get("input", {})).to_the_end()
        finish = child.finish
        assert finish is not None
        if child.ended == "COMPLETED":
            return self.run.complete(task.id, finish.output or b"null", item)
        failure = Failure(f"CHILD_{child.ended}")
        outcome = self.run.outcome(task.id, TaskStatus.FAILED, failure=failure, item=item)
        return self.run.apply(outcome)


RUNNABLE = [one for one in EXAMPLES.values() if not one.needs]


@pytest.mark.parametrize("example", RUNNABLE, ids=[one.title for one in RUNNABLE])
def test_an_example_ends_as_it_announces(example: Example) -> None:
    run = Play(example, example.input).to_the_end()
    assert run.ended == example.ends, run.statuses()
    if example.output is not None:
        assert run.finish is not None
        assert run.finish.output is not None
        assert orjson.loads(run.finish.output) == example.output
