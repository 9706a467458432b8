"""Dependencies of a document's tasks: named ones, those that expressions add, and cycles."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from bend_server.core import limits
from bend_server.core.model import Phase, RunIf
from bend_server.language.findings import Findings, Path, nearest
from bend_server.language.sources import TaskSource

CYCLE_NAMES_SHOWN = 20


class Graph(NamedTuple):
    """Edges between tasks by index, both ways, sorted and without doubles."""

    dependencies: tuple[tuple[int, ...], ...]
    successors: tuple[tuple[int, ...], ...]


def references_of(task: TaskSource) -> Iterator[tuple[int, Path]]:
    """Yield the tasks that a task's expressions read, and where."""
    for reference, path in task.references():
        if reference.task >= 0:
            yield reference.task, path


def link(tasks: Sequence[TaskSource], index: Mapping[str, int], findings: Findings) -> Graph:
    """Return the edges; unknown ids, cycles and too many edges become findings."""
    dependencies: list[tuple[int, ...]] = []
    successors: list[list[int]] = [[] for _ in tasks]
    edges = 0
    for task in tasks:
        found: set[int] = {other for other, _ in references_of(task)}
        for name, path in task.depends_on:
            other = index.get(name)
            if other is not None and tasks[other].phase == task.phase:
                found.add(other)
            elif not findings.full:
                _refuse(name, other, task, path, index, findings)
        if task.phase == Phase.ON_FAILURE:
            # What they read of the other tasks has ended before: that makes no order.
            found = {other for other in found if tasks[other].phase == task.phase}
        if not found and task.run_if == RunIf.FAILURE and not findings.full:
            findings.add(
                "BAD_VALUE",
                "run_if: failure looks at the tasks it depends on, and there are none",
                (*task.path, "run_if"),
            )
        ordered = tuple(sorted(found))
        dependencies.append(ordered)
        edges += len(ordered)
        for other in ordered:
            successors[other].append(task.index)
    if edges > limits.EDGES_MAX:
        findings.add(
            "TOO_LARGE", f"{edges} dependencies; {limits.EDGES_MAX} are allowed", ("tasks",)
        )
    left = _unordered(dependencies, successors)
    if left:
        _report_cycles(tasks, dependencies, left, index, findings)
    return Graph(tuple(dependencies), tuple(tuple(row) for row in successors))


def _refuse(
    name: str,
    other: int | None,
    task: TaskSource,
    path: Path,
    index: Mapping[str, int],
    findings: Findings,
) -> None:
    """Say why a task cannot depend on what it names."""
    if other is None:
        findings.add("UNKNOWN_TASK", f"no task '{name}'{nearest(name, index)}", path)
    elif task.phase == Phase.MAIN:
        text = f"task '{name}' belongs to on_failure, which comes after all other tasks"
        findings.add("OUT_OF_PLACE", text, path)
    else:
        text = f"on_failure comes after all other tasks: '{name}' has ended by then"
        findings.add("OUT_OF_PLACE", text, path)


def _unordered(
    dependencies: Sequence[tuple[int, ...]], successors: Sequence[Sequence[int]]
) -> set[int]:
    """Return the tasks that no order can reach: those on cycles, and those behind them."""
    counts = [len(row) for row in dependencies]
    ready = [task for task, count in enumerate(counts) if not count]
    done = 0
    while ready:
        done += 1
        for other in successors[ready.pop()]:
            counts[other] -= 1
            if not counts[other]:
                ready.append(other)
    if done == len(counts):
        return set()
    return {task for task, count in enumerate(counts) if count}


def _report_cycles(
    tasks: Sequence[TaskSource],
    dependencies: Sequence[tuple[int, ...]],
    left: set[int],
    index: Mapping[str, int],
    findings: Findings,
) -> None:
    """Walk depth first; each edge back to the walk's own path closes a cycle."""
    state: dict[int, int] = {}
    for root in sorted(left):
        if root in state:
            continue
        walk: list[int] = [root]
        rows = [iter(dependencies[root])]
        state[root] = 1
        while walk:
            other = next(rows[-1], None)
            if other is None:
                state[walk.pop()] = 2
                rows.pop()
            elif other in left and other not in state:
                state[other] = 1
                walk.append(other)
                rows.append(iter(dependencies[other]))
            elif state.get(other) == 1:
                _report(tasks, [*walk[walk.index(other) :], other], index, findings)
                if findings.full:
                    return


def _report(
    tasks: Sequence[TaskSource], cycle: list[int], index: Mapping[str, int], findings: Findings
) -> None:
    """Blame an expression when the cycle needs one, else the edge that closes it."""
    names = [tasks[number].id for number in cycle]
    if len(names) > CYCLE_NAMES_SHOWN:
        names[CYCLE_NAMES_SHOWN // 2 : -CYCLE_NAMES_SHOWN // 2] = ["…"]
    shown = " -> ".join(names)
    for number, other in reversed(list(pairwise(cycle))):
        task = tasks[number]
        if all(index.get(name) != other for name, _ in task.depends_on):
            place = next(path for read, path in references_of(task) if read == other)
            text = f"reading '{tasks[other].id}' here closes a cycle: {shown}"
            if number == other and task.control is not None and task.control.repeat is not None:
                text += "; in repeat, 'output' is what the round gave"
            findings.add("REFERENCE_CYCLE", text, place)
            return
    task = tasks[cycle[-2]]
    place = next(path for name, path in task.depends_on if index.get(name) == cycle[-1])
    findings.add("CYCLE", f"the tasks depend on each other: {shown}", place)
