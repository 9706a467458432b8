"""A workflow in the terminal: one line a task, rails at the left show what depends on what.

    ○ enrich  http  cached 1d
    ├─● score  model
    ●─╯ block  http  if score.risk > 0.8 · may fail
    ● audit  http

A rail belongs to a task on which something below depends; `○` depends on nothing. Tasks that look
the same to all others share a line when there are many.
"""

from collections.abc import Sequence
from typing import NamedTuple

from bend_server.language.picture import Box, Picture, collapsed

# With more tasks than this, equal ones share a line.
LINES_SINGLE_MAX = 30
# With more rails than this at once, names say what depends on what.
RAILS_MAX = 24
NAMES_SHOWN = 4


class Line(NamedTuple):
    """One line: a task, or several that look the same, and the lines it depends on."""

    name: str
    text: str
    before: tuple[int, ...]
    layer: int


def draw_text(picture: Picture) -> str:
    """Return the drawing, lines that end in a newline."""
    main = picture.main_count
    depth = max(picture.layers[:main], default=0) + 1
    head = f"{picture.name}: {main} task{'s' * (main != 1)} in {depth} layer{'s' * (depth != 1)}"
    shown = collapsed(picture, LINES_SINGLE_MAX)
    drawn = [head, *_drawn(_lines(shown, range(shown.main_count)))]
    if len(shown.boxes) > shown.main_count:
        late = range(shown.main_count, len(shown.boxes))
        drawn += ["", "on failure", *_drawn(_lines(shown, late))]
    return "".join(f"{line}\n" for line in drawn)


def _lines(picture: Picture, tasks: range) -> list[Line]:
    """Return the lines of some boxes in an order that dependencies allow."""
    ordered = sorted(tasks, key=lambda task: (picture.layers[task], task))
    line_of = {task: at for at, task in enumerate(ordered)}
    return [
        Line(
            picture.boxes[task].id,
            _text(picture.boxes[task]),
            tuple(sorted(line_of[other] for other in picture.before[task])),
            picture.layers[task],
        )
        for task in ordered
    ]


def _text(box: Box) -> str:
    marks = list(box.marks)
    if box.undo:
        marks.append(f"undone by {box.undo}")
    return "  ".join(filter(None, (box.id, box.type, " · ".join(marks))))


class _Rails:
    """Columns at the left; each is free or belongs to a line that others depend on."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self._left = [0] * len(lines)
        for line in lines:
            for other in line.before:
                self._left[other] += 1
        self.columns: list[int | None] = []
        self.widest = 0

    def draw(self, at: int, line: Line) -> str:
        """Return the rails of a line, and move on."""
        owners = {owner: column for column, owner in enumerate(self.columns) if owner is not None}
        joined = {owners[other] for other in line.before}
        ending = set()
        for other in line.before:
            self._left[other] -= 1
            if not self._left[other]:
                ending.add(owners[other])
        free = [column for column, owner in enumerate(self.columns) if owner is None]
        own = min((*ending, *free, len(self.columns)))
        if own == len(self.columns):
            self.columns.append(None)
        self.widest = max(self.widest, len(self.columns))
        drawn = _row(self.columns, own, joined, ending)
        for column in ending:
            self.columns[column] = None
        self.columns[own] = at if self._left[at] else None
        while self.columns and self.columns[-1] is None:
            self.columns.pop()
        return drawn


def _row(columns: list[int | None], own: int, joined: set[int], ending: set[int]) -> str:
    low, high = min((own, *joined)), max((own, *joined))
    text = ""
    for column, owner in enumerate(columns):
        inside = low <= column <= high
        if column == own:
            mark = "●" if joined else "○"
        elif column in joined:
            mark = _joint(column, low, high, ends=column in ending)
        elif owner is not None:
            mark = "│"
        else:
            mark = "─" if inside else " "
        text += mark + ("─" if low <= column < high else " ")
    return text.rstrip(" ") + " "


def _joint(column: int, low: int, high: int, *, ends: bool) -> str:
    """Return how a rail meets a line: from the left end, the right end, or in between."""
    if column == low:
        return "╰" if ends else "├"
    if column == high:
        return "╯" if ends else "┤"
    return "┴" if ends else "┼"


def _drawn(lines: Sequence[Line]) -> list[str]:
    rails, drawn = _Rails(lines), []
    for at, line in enumerate(lines):
        drawn.append(rails.draw(at, line) + line.text)
        if rails.widest > RAILS_MAX:
            return _named(lines)
    return drawn


def _named(lines: Sequence[Line]) -> list[str]:
    """Write names where rails would fill the terminal."""
    drawn = []
    for line in lines:
        names = [lines[other].name for other in line.before[:NAMES_SHOWN]]
        if len(line.before) > NAMES_SHOWN:
            names.append(f"{len(line.before) - NAMES_SHOWN} more")
        behind = f"  ← {', '.join(names)}" if names else ""
        drawn.append(f"{line.layer + 1:>4}  {line.text}{behind}")
    return drawn
