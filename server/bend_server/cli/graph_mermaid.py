"""A workflow as a Mermaid flowchart, for Markdown that renders it."""

from bend_server.core.model import TaskKind
from bend_server.language.picture import Box, Picture, collapsed

# With more tasks than this, equal ones share a box.
BOXES_SINGLE_MAX = 100
# A shape for each kind: what stands left and right of the label.
_SHAPES = {
    TaskKind.COMPONENT: ("[", "]"),
    TaskKind.WORKFLOW: ("[[", "]]"),
    TaskKind.WAIT: ("([", "])"),
    TaskKind.SIGNAL: (">", "]"),
    TaskKind.APPROVAL: ("{{", "}}"),
}


def draw_mermaid(picture: Picture) -> str:
    """Return the flowchart, lines that end in a newline."""
    picture = collapsed(picture, BOXES_SINGLE_MAX)
    main = range(picture.main_count)
    late = range(picture.main_count, len(picture.boxes))
    lines = ["---", f"title: {picture.name}", "---", "flowchart TD"]
    lines += [_node(at, picture.boxes[at]) for at in main]
    if late:
        lines.append('  subgraph failure ["on failure"]')
        lines += ["  " + _node(at, picture.boxes[at]) for at in late]
        lines.append("  end")
    for at, before in enumerate(picture.before):
        lines += [f"  t{other} --> t{at}" for other in before]
    for at, box in enumerate(picture.boxes):
        if box.undo:
            lines.append(f"  t{at} -. undone by .-> u{at}({_quoted(box.undo)})")
    return "".join(f"{line}\n" for line in lines)


def _node(at: int, box: Box) -> str:
    left, right = _SHAPES[box.kind]
    rows = [f"<b>{_escaped(box.id)}</b>", _escaped(box.type), *map(_escaped, box.marks)]
    return f'  t{at}{left}"{"<br>".join(rows)}"{right}'


def _quoted(text: str) -> str:
    return f'"{_escaped(text)}"'


def _escaped(text: str) -> str:
    """Write a text as Mermaid's entities, so that it is neither syntax, HTML nor Markdown."""
    return "".join(
        char if char.isalnum() or char in " .,:@_-/+=?!()" else f"#{ord(char)};" for char in text
    )
