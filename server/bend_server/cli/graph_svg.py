"""A workflow as SVG, written here: no library, no script, every text escaped."""

from xml.sax.saxutils import escape

from bend_server.cli.graph_layout import Layout, Spot, lay_out
from bend_server.core.model import TaskKind
from bend_server.language.picture import Box, Picture, collapsed

# With more tasks than this, equal ones share a box.
BOXES_SINGLE_MAX = 100
CHAR_WIDTH, LINE_HEIGHT, PADDING = 7.2, 17.0, 12.0
CHARS_MIN, CHARS_MAX = 12, 40
MARGIN, HEADER = 24.0, 34.0

_STYLE = """\
text { font: 12px ui-monospace, Menlo, Consolas, monospace; fill: #1f2328; }
.head { font-size: 15px; font-weight: 600; }
.id { font-weight: 600; }
.type { fill: #59636e; }
.mark { fill: #0550ae; }
.undo { fill: #953800; }
.box { fill: #f6f8fa; stroke: #8c959f; }
.engine { fill: #ddf4ff; stroke: #54aeff; }
.conditional { stroke-dasharray: 5 3; }
.edge { fill: none; stroke: #8c959f; stroke-width: 1.2; marker-end: url(#arrow); }
.frame { fill: none; stroke: #cf222e; stroke-dasharray: 3 3; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .type { fill: #9198a1; }
  .mark { fill: #79c0ff; }
  .undo { fill: #ffa657; }
  .box { fill: #161b22; stroke: #6e7681; }
  .engine { fill: #0c2d4d; stroke: #388bfd; }
}
"""


def draw_svg(picture: Picture) -> str:
    """Return the document, lines that end in a newline."""
    shown = collapsed(picture, BOXES_SINGLE_MAX)
    main = shown.main_count
    parts = [(0, main, "")]
    if main < len(shown.boxes):
        parts.append((main, len(shown.boxes), "on failure"))
    body: list[str] = []
    width, top = len(shown.name) * CHAR_WIDTH * 1.3, MARGIN + HEADER
    for first, last, title in parts:
        if title:
            top += HEADER
        rows = [_rows(box) for box in shown.boxes[first:last]]
        before = [[other - first for other in row] for row in shown.before[first:last]]
        layout = lay_out(shown.layers[first:last], before, [_size(row) for row in rows])
        if title:
            body += _frame(title, layout, top)
        body += _edges(layout, rows, top)
        for box, row, spot in zip(shown.boxes[first:last], rows, layout.boxes, strict=True):
            body += _box(box, row, spot, top)
        width = max(width, layout.width)
        top += layout.height + MARGIN
    return _document(shown.name, body, width + 2 * MARGIN, top)


def _rows(box: Box) -> list[tuple[str, str]]:
    """Return (class, text) of each line in a box."""
    rows = [("id", box.id), ("type", box.type), *(("mark", mark) for mark in box.marks)]
    if box.undo:
        rows.append(("undo", f"undone by {box.undo}"))
    return rows


def _size(rows: list[tuple[str, str]]) -> tuple[float, float]:
    chars = max(len(text) for _, text in rows)
    chars = min(max(chars, CHARS_MIN), CHARS_MAX)
    return chars * CHAR_WIDTH + 2 * PADDING, len(rows) * LINE_HEIGHT + PADDING


def _box(box: Box, rows: list[tuple[str, str]], spot: Spot, down: float) -> list[str]:
    width, height = _size(rows)
    left, top = spot.x - width / 2 + MARGIN, spot.top + down
    classes = "box" if box.kind == TaskKind.COMPONENT else "box engine"
    if any(mark.startswith(("if ", "run if ")) for mark in box.marks):
        classes += " conditional"
    whole = "\n".join(text for _, text in rows)
    lines = [
        f"<g><title>{_text(whole)}</title>",
        f'<rect class="{classes}" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" '
        f'height="{height:.1f}" rx="6"/>',
    ]
    for at, (kind, text) in enumerate(rows):
        cut = text if len(text) <= CHARS_MAX else text[: CHARS_MAX - 1] + "…"
        y = top + PADDING / 2 + (at + 0.75) * LINE_HEIGHT
        lines.append(
            f'<text class="{kind}" x="{left + PADDING:.1f}" y="{y:.1f}">{_text(cut)}</text>'
        )
    lines.append("</g>")
    return lines


def _edges(layout: Layout, rows: list[list[tuple[str, str]]], down: float) -> list[str]:
    """Return the edges: curves between layers, straight lines beside the boxes of a layer."""
    lines = []
    for one, two, waypoints in layout.edges:
        start, end = layout.boxes[one], layout.boxes[two]
        x, y = start.x + MARGIN, start.top + _size(rows[one])[1] + down
        path = f"M{x:.1f} {y:.1f}"
        for spot in (*waypoints, end):
            to_x, to_y = spot.x + MARGIN, spot.top + down
            bend = (to_y - y) / 2
            path += f" C{x:.1f} {y + bend:.1f} {to_x:.1f} {to_y - bend:.1f} {to_x:.1f} {to_y:.1f}"
            x, y = to_x, to_y
            if spot is not end:
                y = spot.bottom + down
                path += f" V{y:.1f}"
        lines.append(f'<path class="edge" d="{path}"/>')
    return lines


def _frame(title: str, layout: Layout, down: float) -> list[str]:
    half = MARGIN / 2
    return [
        f'<text class="type" x="{MARGIN:.1f}" y="{down - half - 6:.1f}">{_text(title)}</text>',
        f'<rect class="frame" x="{half:.1f}" y="{down - half:.1f}" '
        f'width="{layout.width + MARGIN:.1f}" height="{layout.height + MARGIN:.1f}" rx="8"/>',
    ]


def _document(name: str, body: list[str], width: float, height: float) -> str:
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{_text(name)}">',
        f"<style>\n{_STYLE}</style>",
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8z" fill="#8c959f"/></marker></defs>',
        f'<text class="head" x="{MARGIN:.0f}" y="{MARGIN + 10:.0f}">{_text(name)}</text>',
    ]
    return "\n".join([*head, *body, "</svg>"]) + "\n"


def _text(text: str) -> str:
    """Escape a text, and leave out what XML cannot hold."""
    kept = "".join(char for char in text if char in "\n\t" or char.isprintable())
    return escape(kept, {'"': "&quot;", "'": "&#39;"})
