"""What the keys of control flow become in the plan, and what their templates give."""

import json
from collections.abc import Mapping

import orjson
import pytest

from bend_server.core import limits
from bend_server.core.model import Phase, TaskKind
from bend_server.core.plan import ConcurrencyStrategy, ExpressionError, NeedsBlob, Plan, TaskPlan
from bend_server.language import compile_document
from tests.language.documents import plan_of
from tests.language.scopes import FakeScope


def item_scope(item: object, index: int = 0, **more: Mapping[int, object]) -> FakeScope:
    """Return a scope inside a for_each."""
    scope = FakeScope(**more)  # type: ignore[arg-type]
    scope.item, scope.index = json.dumps(item).encode(), index
    return scope


def one(**keys: object) -> TaskPlan:
    """Compile a task z after a task a."""
    return plan_of({"id": "a"}, {"id": "z", **keys}).tasks[1]


def items(task: TaskPlan, scope: FakeScope | None = None) -> list[object]:
    """Evaluate for_each."""
    assert task.for_each is not None
    return [orjson.loads(item) for item in task.for_each(scope or FakeScope())]


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("input.rows", [1, {"x": None}]),
        ("{{ input.rows }}", [1, {"x": None}]),
        ("a.list.filter(n, n > 1)", [2, 3]),
        ("[1, 'two', a.list]", [1, "two", [1, 2, 3]]),
        ([1, "{{input.rows[0]}}", {"k": "{{a.list}}"}], [1, 1, {"k": [1, 2, 3]}]),
        (["x", "y"], ["x", "y"]),
        ([], []),
        ("{{ [] }}", []),
    ],
)
def test_for_each_gives_a_list(source: object, wanted: list[object]) -> None:
    scope = FakeScope({"rows": [1, {"x": None}]}, {0: {"list": [1, 2, 3]}})
    assert items(one(for_each=source), scope) == wanted


def test_items_keep_the_digits_of_their_integers() -> None:
    task = one(for_each="input.rows", v="{{item}}")
    scope = FakeScope({"rows": [2**70]})
    assert task.for_each is not None
    assert task.for_each(scope) == [b"1180591620717411303424"]
    scope.item = b"1180591620717411303424"
    assert task.render(scope).data == b'{"v":1180591620717411303424}'


def test_what_is_no_list_or_too_long_fails_with_its_place() -> None:
    task = one(for_each="input.rows")
    with pytest.raises(ExpressionError, match=r"task z, for_each 'input.rows': a list"):
        items(task, FakeScope({"rows": {"a": 1}}))
    with pytest.raises(ExpressionError, match=r"10001 items; 10000 are allowed"):
        items(task, FakeScope({"rows": [0] * (limits.ITEMS_MAX + 1)}))
    assert len(items(task, FakeScope({"rows": [0] * limits.ITEMS_MAX}))) == limits.ITEMS_MAX
    with pytest.raises(ExpressionError, match="has no field 'rows'"):
        items(task)


def test_a_list_in_the_blob_store_is_asked_for() -> None:
    task = one(for_each="a.rows")
    with pytest.raises(NeedsBlob):
        items(task, FakeScope(blobs={0: ("key", 0)}))


def test_item_and_index_are_read_in_inputs_and_keys() -> None:
    task = one(
        for_each="input.rows",
        max_parallel=3,
        v="{{item.name}}-{{index}}",
        whole="{{item}}",
        cache={"key": "{{item.name}}", "ttl": "1h", "scope": "namespace"},
        rate_limit={"key": "host {{item.name}}", "limit": 5, "per": "1m"},
        concurrency={"key": "{{index}}", "limit": 2},
    )
    scope = item_scope({"name": "ada"}, 7)
    assert orjson.loads(task.render(scope).data) == {"v": "ada-7", "whole": {"name": "ada"}}
    assert task.parallel_max == 3
    assert task.cache is not None
    assert (task.cache.ttl_us, task.cache.namespace_wide) == (3_600_000_000, True)
    assert task.cache.key is not None
    assert task.cache.key(scope) == "ada"
    rate, slots = task.slots
    assert (rate.key(scope), rate.limit, rate.per_us) == ("host ada", 5, 60_000_000)
    assert (slots.key(scope), slots.limit, slots.per_us) == ("7", 2, 0)


def test_keys_are_text_and_bounded() -> None:
    task = one(concurrency={"key": "{{input.k}}", "limit": 1})
    key = task.slots[0].key
    assert [key(FakeScope({"k": k})) for k in ("t", 1, None, [1, "a"])] == [
        "t",
        "1",
        "null",
        '[1,"a"]',
    ]
    with pytest.raises(ExpressionError, match=r"task z, concurrency.key: 513 characters"):
        key(FakeScope({"k": "k" * 513}))


@pytest.mark.parametrize(
    ("repeat", "output", "goes_on"),
    [
        ({"until": "output.done"}, {"done": False}, True),
        ({"until": "output.done"}, {"done": True}, False),
        ({"while": "{{ output.left > 0 }}"}, {"left": 2}, True),
        ({"while": "output.left > 0"}, {"left": 0}, False),
        ({"while": "iteration < 4"}, None, True),
        ({"until": "iteration >= 4 || a.x == 1"}, None, False),
        ({"until": "has(output.token) == false"}, {}, False),
    ],
)
def test_repeat_judges_a_round(repeat: dict[str, object], output: object, goes_on: bool) -> None:
    task = one(repeat={**repeat, "max": 5, "delay": "2s"})
    assert task.repeat is not None
    assert (task.repeat.rounds_max, task.repeat.delay_us) == (5, 2_000_000)
    scope = FakeScope(outputs={0: {"x": 1}})
    scope.iteration = 3
    assert task.repeat.goes_on(scope, json.dumps(output).encode()) is goes_on


def test_a_round_that_cannot_be_judged_names_its_place() -> None:
    task = one(repeat={"until": "output.done", "max": 2})
    assert task.repeat is not None
    with pytest.raises(ExpressionError, match=r"task z, repeat.until 'output.done': output has no"):
        task.repeat.goes_on(FakeScope(), b'{"d":1}')
    with pytest.raises(ExpressionError, match="gives 3, not true or false"):
        task.repeat.goes_on(FakeScope(), b'{"done":3}')


def test_the_input_of_a_loop_sees_what_the_round_before_gave() -> None:
    task = one(
        repeat={"until": "output.done", "max": 9},
        whole="{{output}}",
        next="{{iteration == 0 ? 'first' : output.next}}",
        known="{{has(output.next)}}",
        concurrency={"key": "{{output.next}}", "limit": 1},
    )
    scope = FakeScope()
    assert orjson.loads(task.render(scope).data) == {"whole": None, "next": "first", "known": False}
    with pytest.raises(ExpressionError, match="output has no field 'next'"):
        task.slots[0].key(scope)
    scope.iteration, scope.before = 1, b'{"next":"b","done":false}'
    assert orjson.loads(task.render(scope).data) == {
        "whole": {"next": "b", "done": False}, "next": "b", "known": True,
    }  # fmt: skip
    assert task.slots[0].key(scope) == "b"
    assert task.repeat is not None
    assert not task.repeat.goes_on(scope, b'{"done":true}'), "the verdict is about the new round"


def test_iteration_is_read_in_the_input() -> None:
    task = one(repeat={"until": "output.done", "max": 9}, page="{{iteration + 1}}", cache=True)
    scope = FakeScope()
    scope.iteration = 4
    assert task.render(scope).data == b'{"page":5}'


def test_the_engines_own_types_render_their_inputs() -> None:
    plan = plan_of(
        {"id": "a"},
        {"id": "child", "type": "workflow", "workflow": "sub", "revision": 3,
         "input": {"n": "{{a.n}}"}, "timeout": "2h"},
        {"id": "rest", "type": "wait", "duration": "{{a.n}}s"},
        {"id": "late", "type": "wait", "until": "2026-02-28T23:59:60.5+01:00"},
        {"id": "told", "type": "signal", "name": "go-{{a.n}}", "timeout": "3h"},
        {"id": "asked", "type": "approval", "title": "Go to {{a.n}}?", "assignees": ["ada"],
         "form": {"properties": {"why": {"type": "string"}}}, "with": {"timeout": "1d"}},
    )  # fmt: skip
    scope = FakeScope(outputs={0: {"n": 7}})
    made = [orjson.loads(task.render(scope).data) for task in plan.tasks[1:]]
    assert made == [
        {"workflow": "sub", "revision": 3, "input": {"n": 7}},
        {"duration": "7s"},
        {"until": "2026-02-28T23:59:60.5+01:00"},
        {"name": "go-7", "timeout": "3h"},
        {
            "title": "Go to 7?",
            "assignees": ["ada"],
            "form": {"properties": {"why": {"type": "string"}}},
            "timeout": "1d",
        },
    ]
    kinds = [task.kind for task in plan.tasks]
    assert kinds == [
        TaskKind.COMPONENT,
        TaskKind.WORKFLOW,
        TaskKind.WAIT,
        TaskKind.WAIT,
        TaskKind.SIGNAL,
        TaskKind.APPROVAL,
    ]
    assert [task.dependencies for task in plan.tasks] == [(), (0,), (0,), (), (0,), (0,)]
    unbounded = limits.ATTEMPT_TIMEOUT_US_MAX
    assert [task.timeout_us for task in plan.tasks[1:]] == [7_200_000_000, *[unbounded] * 4]


SAGA = b"""\
name: saga
concurrency: {key: "{{input.customer}}", limit: 2, strategy: cancel_oldest}
tasks:
  - id: book
    type: hotel.book
    for_each: input.rooms
    compensate: {type: hotel.free@2, room: "{{item}}", booked: "{{book.id}}", at: "{{index}}",
                 timeout: 3s, retry: {max_attempts: 9}}
  - id: pay
    type: bank.pay
    compensate: {type: workflow, workflow: refund, input: {amount: "{{pay.amount}}"}}
  - {id: ship, type: parcel.ship, depends_on: [pay]}
on_failure:
  - {id: tell, type: mail.send, text: "{{tasks.ship.status}} {{pay.amount}}"}
  - {id: note, type: log.write, condition: "tell.sent && ship.status == 'failed'"}
"""


def saga() -> Plan:
    return compile_document(SAGA, "application/yaml").plan("ns", 1, {"hotel.book": 3})


def test_phases_stand_one_after_the_other() -> None:
    plan = saga()
    assert [task.id for task in plan.tasks] == [
        "book",
        "pay",
        "ship",
        "tell",
        "note",
        "book.compensate",
        "pay.compensate",
    ]
    assert [task.index for task in plan.tasks] == list(range(7))
    assert [task.phase for task in plan.tasks] == [
        *[Phase.MAIN] * 3,
        *[Phase.ON_FAILURE] * 2,
        *[Phase.COMPENSATION] * 2,
    ]
    assert (plan.main_count, plan.roots, plan.leaves) == (3, (0, 1), (0, 2))
    assert plan.failure_roots == (3,)
    assert [task.dependencies for task in plan.tasks] == [(), (), (1,), (), (3,), (), ()]
    assert [task.successors for task in plan.tasks] == [(), (2,), (), (4,), (), (), ()]
    assert list(plan.dependency_counts) == [0, 0, 1, 0, 1, 0, 0]
    assert [task.compensated_by for task in plan.tasks] == [5, 6, *[None] * 5]
    assert [task.compensates for task in plan.tasks] == [*[None] * 5, 0, 1]
    assert plan.index["book.compensate"] == 5
    assert not plan.plain


def test_a_compensation_reads_the_item_and_every_output() -> None:
    plan = saga()
    undo, refund = plan.tasks[5:]
    scope = item_scope("r1", 1, outputs={0: {"id": 5}, 1: {"amount": 30}})
    assert orjson.loads(undo.render(scope).data) == {"room": "r1", "booked": 5, "at": 1}
    assert (undo.component, undo.major, undo.timeout_us) == ("hotel.free", 2, 3_000_000)
    assert undo.retry.attempts_max == 9
    assert refund.kind == TaskKind.WORKFLOW
    assert orjson.loads(refund.render(scope).data) == {
        "workflow": "refund",
        "input": {"amount": 30},
    }


def test_components_of_all_phases_are_named_with_their_places() -> None:
    definition = compile_document(SAGA, "application/yaml")
    assert [(use.name, use.major, use.path) for use in definition.components] == [
        ("hotel.book", None, "tasks[0].type"),
        ("bank.pay", None, "tasks[1].type"),
        ("parcel.ship", None, "tasks[2].type"),
        ("mail.send", None, "on_failure[0].type"),
        ("log.write", None, "on_failure[1].type"),
        ("hotel.free", 2, "tasks[0].compensate.type"),
    ]
    assert definition.task_count == 5


def test_tasks_of_on_failure_read_the_others() -> None:
    plan = saga()
    scope = FakeScope(outputs={1: {"amount": 30}, 3: {"sent": True}}, own={2: {"status": "failed"}})
    assert orjson.loads(plan.tasks[3].render(scope).data) == {"text": "failed 30"}
    condition = plan.tasks[4].condition
    assert condition is not None
    assert condition(scope) is True


def test_a_workflow_has_a_concurrency_key() -> None:
    found = saga().concurrency
    assert found is not None
    assert (found.limit, found.strategy) == (2, ConcurrencyStrategy.CANCEL_OLDEST)
    assert found.key(FakeScope({"customer": 7})) == "7"
    one_for_all = plan_of({"id": "a"}, concurrency={"limit": 1}).concurrency
    assert one_for_all is not None
    assert one_for_all.strategy == ConcurrencyStrategy.QUEUE
    assert one_for_all.key(FakeScope()) == ""


def test_pause_on_failure() -> None:
    plan = plan_of({"id": "a"}, on_failure="pause")
    assert (plan.pause_on_failure, plan.plain, plan.failure_roots) == (True, False, ())
    assert not plan_of({"id": "a"}, on_failure="fail").pause_on_failure


def test_a_plan_is_plain_only_without_control_flow() -> None:
    assert plan_of({"id": "a", "retry": {"max_attempts": 2}, "condition": "true"}).plain
    assert plan_of({"id": "a", "cacheable": False}, on_failure="fail").plain
    for keys in (
        {"for_each": []},
        {"repeat": {"until": "true", "max": 1}},
        {"cacheable": True},
        {"compensate": {"type": "x"}},
        {"rate_limit": {"key": "k", "limit": 1, "per": 1}},
        {"concurrency": {"key": "k", "limit": 1}},
        {"type": "wait", "duration": 1},
    ):
        assert not plan_of({"id": "a", **keys}).plain, keys
    assert not plan_of({"id": "a"}, on_failure=[{"id": "b", "type": "x"}]).plain
