"""What a drawing of a workflow shows: its tasks in layers, and what is special about each."""

from collections.abc import Sequence
from typing import NamedTuple

from bend_server.core.model import Phase, RunIf, TaskKind
from bend_server.language.durations import show_duration
from bend_server.language.engine_types import WORDS
from bend_server.language.findings import cut
from bend_server.language.graph import Graph
from bend_server.language.sources import Control, TaskSource
from bend_server.language.templates import CLOSE, OPEN

EXPRESSION_CHARS_MAX = 60


class Box(NamedTuple):
    """One task: `marks` are short texts, such as `if score.risk > 0.8` or `for each input.rows`.

    `undo` names the component that undoes it, or is empty.
    """

    id: str
    type: str
    kind: TaskKind
    marks: tuple[str, ...]
    undo: str


class Picture(NamedTuple):
    """A workflow to draw: first its tasks, from `main_count` on those of on_failure.

    `before[i]` are the tasks that box i depends on; `layers[i]` is its layer, from 0, each deeper
    than those of the tasks before it; layers of on_failure count from 0 again.
    """

    name: str
    boxes: tuple[Box, ...]
    before: tuple[tuple[int, ...], ...]
    layers: tuple[int, ...]
    main_count: int


def collapsed(picture: Picture, single_max: int) -> Picture:
    """Return a picture in which tasks that look the same to all others share a box.

    Nothing is shared when there are at most `single_max` tasks. Tasks look the same when they
    differ in nothing but their id.
    """
    count = len(picture.boxes)
    if count <= single_max:
        return picture
    after: list[list[int]] = [[] for _ in range(count)]
    for task, row in enumerate(picture.before):
        for other in row:
            after[other].append(task)
    groups: dict[tuple[object, ...], list[int]] = {}
    for task, box in enumerate(picture.boxes):
        late = task >= picture.main_count
        key = (late, box[1:], picture.before[task], tuple(after[task]))
        groups.setdefault(key, []).append(task)
    ordered = sorted(groups.values())
    group_of = {task: at for at, group in enumerate(ordered) for task in group}
    return Picture(
        picture.name,
        tuple(_shared([picture.boxes[task] for task in group]) for group in ordered),
        tuple(
            tuple(sorted({group_of[other] for other in picture.before[group[0]]}))
            for group in ordered
        ),
        tuple(picture.layers[group[0]] for group in ordered),
        sum(group[0] < picture.main_count for group in ordered),
    )


def _shared(boxes: Sequence[Box]) -> Box:
    first = boxes[0]
    if len(boxes) == 1:
        return first
    id_ = f"{first.id} … {boxes[-1].id}"
    return first._replace(id=id_, type=f"{len(boxes)} tasks of {first.type}")


def picture_of(name: str, tasks: Sequence[TaskSource], graph: Graph) -> Picture:
    """Return the picture of checked tasks; those that undo others become a mark of theirs."""
    shown = [task for task in tasks if task.phase != Phase.COMPENSATION]
    return Picture(
        name,
        tuple(_box(task) for task in shown),
        graph.dependencies,
        _layers(graph),
        sum(task.phase == Phase.MAIN for task in shown),
    )


def _layers(graph: Graph) -> tuple[int, ...]:
    """Return the longest way from a root to each task, in edges."""
    layers = [0] * len(graph.dependencies)
    missing = [len(row) for row in graph.dependencies]
    ready = [task for task, count in enumerate(missing) if not count]
    for task in ready:  # grows while it is walked
        for other in graph.successors[task]:
            layers[other] = max(layers[other], layers[task] + 1)
            missing[other] -= 1
            if not missing[other]:
                ready.append(other)
    return tuple(layers)


def _box(task: TaskSource) -> Box:
    type_ = WORDS[task.kind] if task.kind != TaskKind.COMPONENT else task.component
    if task.major is not None:
        type_ += f"@{task.major}"
    undo = None if task.control is None else task.control.compensation
    undone = "" if undo is None else undo.component or WORDS.get(undo.kind, "")
    return Box(task.id, type_, task.kind, tuple(_marks(task)), undone)


def _marks(task: TaskSource) -> list[str]:
    marks: list[str] = []
    if task.run_if != RunIf.SUCCESS:
        marks.append(f"run if {task.run_if.name.lower()}")
    if task.never:
        marks.append("never")
    elif task.condition is not None:
        marks.append(f"if {_short(task.condition)}")
    if task.control is not None:
        marks += _control_marks(task.control)
    if task.kind != TaskKind.COMPONENT:
        marks += _engine_marks(task)
    if task.allow_failure:
        marks.append("may fail")
    return marks


def _control_marks(control: Control) -> list[str]:
    marks: list[str] = []
    if isinstance(control.for_each, list):
        marks.append(f"for each of {len(control.for_each)}")
    elif control.for_each is not None:
        marks.append(f"for each {_short(control.for_each)}")
    repeat = control.repeat
    if repeat is not None:
        word = "until" if repeat.until else "while"
        marks.append(f"repeat {word} {_short(repeat.condition)}, at most {repeat.rounds_max}")
    if control.cache is not None:
        marks.append(f"cached {show_duration(control.cache.ttl_us)}")
    for slot in control.slots:
        span = f" per {show_duration(slot.per_us)}" if slot.per_us else " at once"
        marks.append(f"{slot.limit}{span}")
    return marks


def _engine_marks(task: TaskSource) -> list[str]:
    """Show what one of the engine's own types is about: its first input."""
    keys = ("workflow", "duration", "until", "name", "title")
    return [_short(str(task.inputs[key])) for key in keys if key in task.inputs][:1]


def _short(expression: str) -> str:
    text = expression.strip()
    if text.startswith(OPEN) and text.endswith(CLOSE) and text.count(OPEN) == 1:
        text = text[len(OPEN) : -len(CLOSE)]
    return cut(" ".join(text.split()), EXPRESSION_CHARS_MAX)
