"""Dependencies: named, added by expressions, unknown, and cycles shown."""

from bend_server.language import findings_of
from tests.language.documents import facts, plan_of

HEAD = "name: w\ntasks:\n"


def test_ids_that_expressions_name_are_added() -> None:
    plan = plan_of(
        {"id": "a"},
        {"id": "b"},
        {"id": "c"},
        {"id": "d"},
        {
            "id": "z",
            "depends_on": ["a"],
            "condition": "has(b.x) || tasks.c.status == 'failed'",
            "body": {"deep": ["{{ [1].map(n, d.value + n) }}"]},
        },
    )
    assert plan.tasks[4].dependencies == (0, 1, 2, 3)
    assert plan.tasks[3].successors == (4,)
    assert list(plan.dependency_counts) == [0, 0, 0, 0, 4]


def test_a_dependency_named_twice_counts_once() -> None:
    plan = plan_of({"id": "a"}, {"id": "b", "depends_on": ["a", "a"], "v": "{{a.x}}{{a.y}}"})
    assert plan.tasks[1].dependencies == (0,)


def test_a_variable_of_a_macro_hides_a_task() -> None:
    plan = plan_of({"id": "a"}, {"id": "b", "v": "{{ [1, 2].map(a, a + 1) }}"})
    assert plan.tasks[1].dependencies == ()


def test_the_output_adds_no_dependency() -> None:
    plan = plan_of({"id": "a"}, {"id": "b"}, output={"r": "{{a.x}}"})
    assert plan.roots == (0, 1)
    assert plan.leaves == (0, 1)


def test_an_unknown_id_suggests_the_nearest() -> None:
    document = HEAD + "  - {id: alpha, type: x}\n  - {id: b, type: x, depends_on: [alhpa]}\n"
    assert facts(document) == [("UNKNOWN_TASK", "tasks[1].depends_on[0]", 4, 35)]
    (finding,) = findings_of(document.encode(), "yaml")
    assert finding.message == "no task 'alhpa' (did you mean 'alpha'?)"


def test_a_cycle_is_shown() -> None:
    document = (
        HEAD
        + "  - {id: a, type: x, depends_on: [c]}\n"
        + "  - {id: b, type: x, depends_on: [a]}\n"
        + "  - {id: c, type: x, depends_on: [b]}\n"
    )
    (finding,) = findings_of(document.encode(), "yaml")
    assert tuple(finding) == (
        "CYCLE",
        "the tasks depend on each other: a -> c -> b -> a",
        "tasks[1].depends_on[0]",
        4,
        35,
    )


def test_each_of_two_cycles_is_shown() -> None:
    document = (
        HEAD
        + "  - {id: a, type: x, depends_on: [a]}\n"
        + "  - {id: b, type: x, depends_on: [c]}\n"
        + "  - {id: c, type: x, depends_on: [b]}\n"
        + "  - {id: d, type: x, depends_on: [c]}\n"
    )
    assert facts(document) == [
        ("CYCLE", "tasks[0].depends_on[0]", 3, 35),
        ("CYCLE", "tasks[2].depends_on[0]", 5, 35),
    ]


def test_a_reference_that_closes_a_cycle_is_blamed() -> None:
    document = (
        HEAD
        + '  - {id: a, type: x, v: {w: "{{b.x}}"}}\n'
        + "  - {id: b, type: x, depends_on: [a]}\n"
    )
    (finding,) = findings_of(document.encode(), "yaml")
    assert tuple(finding) == (
        "REFERENCE_CYCLE",
        "reading 'b' here closes a cycle: a -> b -> a",
        "tasks[0].v.w",
        3,
        29,
    )


def test_a_task_cannot_read_itself() -> None:
    document = HEAD + '  - {id: a, type: x, condition: "a.x > 1"}\n'
    assert facts(document) == [("REFERENCE_CYCLE", "tasks[0].condition", 3, 33)]


def test_a_cycle_of_20000_tasks_is_found_without_recursion() -> None:
    rows = [f"  - {{id: t{n}, type: x, depends_on: [t{(n + 1) % 20000}]}}\n" for n in range(20000)]
    (finding,) = findings_of((HEAD + "".join(rows)).encode(), "yaml")
    assert finding.reason == "CYCLE"
    assert "…" in finding.message


def test_too_many_edges_are_refused() -> None:
    ids = [f"t{n}" for n in range(400)]
    rows = [f"  - {{id: {name}, type: x}}\n" for name in ids]
    rows += [f"  - {{id: u{n}, type: x, depends_on: [{', '.join(ids)}]}}\n" for n in range(501)]
    assert facts(HEAD + "".join(rows)) == [("TOO_LARGE", "tasks", 3, 3)]
