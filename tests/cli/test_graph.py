"""`bend graph`: the drawings are files here; `bend graph FILE --format F > FILE` renews them."""

import json
import random
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from bend_server.cli.graph import graph
from bend_server.cli.graph_layout import lay_out
from bend_server.cli.graph_mermaid import draw_mermaid
from bend_server.cli.graph_svg import draw_svg
from bend_server.cli.graph_text import draw_text
from bend_server.language import compile_document
from bend_server.language.picture import Picture

DRAWINGS = Path(__file__).with_name("drawings")
SOURCE = DRAWINGS / "order_saga.yaml"
SVG = "{http://www.w3.org/2000/svg}"
Row = dict[str, object]


def picture(*tasks: Row, **keys: object) -> Picture:
    document = {"name": "w", **keys, "tasks": [{"type": "x", **task} for task in tasks]}
    return compile_document(json.dumps(document).encode(), "application/json").picture()


@pytest.mark.parametrize(("form", "ending"), [("text", "txt"), ("mermaid", "mmd"), ("svg", "svg")])
def test_the_drawings_are_those_we_looked_at(form: str, ending: str) -> None:
    result = CliRunner().invoke(graph, [str(SOURCE), "--format", form])
    assert result.exit_code == 0
    assert result.output == SOURCE.with_suffix(f".{ending}").read_text(encoding="utf-8")


def test_standard_input_is_read_and_text_is_the_default() -> None:
    result = CliRunner().invoke(graph, ["-"], input=b"name: w\ntasks: [{id: a, type: x}]\n")
    assert result.output == "w: 1 task in 1 layer\n○ a  x\n"


def test_a_wrong_document_is_not_drawn(tmp_path: Path) -> None:
    path = tmp_path / "w.yaml"
    path.write_text("name: w\ntasks:\n  - {id: a, type: x, depends_on: [b]}\n")
    result = CliRunner().invoke(graph, [str(path)])
    assert result.exit_code == 3
    assert result.stdout == ""
    assert result.stderr == f"{path}:3:35: UNKNOWN_TASK: no task 'b'\n"
    assert CliRunner().invoke(graph, [str(tmp_path / "none.yaml")]).exit_code == 2


def test_texts_of_the_document_are_no_markup() -> None:
    nasty = "\"</text><script>alert('1')</script>&amp; ]] --> %%{init}%% #quot; `x` <b> \x07 \u202e"
    drawn = picture({"id": "a", "type": "approval", "title": nasty}, description=nasty)
    svg = draw_svg(drawn)
    root = ElementTree.fromstring(svg)
    assert {element.tag.removeprefix(SVG) for element in root.iter()} == {
        "svg",
        "style",
        "defs",
        "marker",
        "path",
        "text",
        "g",
        "title",
        "rect",
    }
    assert "<script" not in svg
    mermaid = draw_mermaid(drawn)
    (node,) = [line for line in mermaid.splitlines() if line.startswith("  t0")]
    label = node.removeprefix('  t0{{"').removesuffix('"}}')
    for mark in ('"', "<script", "`", "%%", "]]", "&"):
        assert mark not in label.replace("<b>a</b>", "")
    assert len(draw_text(drawn).splitlines()) == 2


def rectangles(svg: str) -> list[tuple[float, float, float, float]]:
    """Return left, top, right, bottom of each box."""
    found = []
    for element in ElementTree.fromstring(svg).iter(f"{SVG}rect"):
        if "box" in element.get("class", ""):
            x, y, w, h = (float(element.get(key, "nan")) for key in ("x", "y", "width", "height"))
            found.append((x, y, x + w, y + h))
    return found


@pytest.mark.parametrize("seed", range(20))
def test_boxes_do_not_overlap_and_edges_lead_down(seed: int) -> None:
    chance = random.Random(seed)
    layers, before, sizes = [], [], []
    for at in range(chance.randint(1, 60)):
        row = sorted(chance.sample(range(at), min(at, chance.choice((0, 1, 1, 2, 4)))))
        before.append(row)
        layers.append(max((layers[other] + 1 for other in row), default=0))
        sizes.append((chance.uniform(80, 300), chance.uniform(40, 120)))
    layout = lay_out(layers, before, sizes)
    spots = layout.boxes
    for one, (width, height) in enumerate(sizes):
        assert width / 2 - 0.1 <= spots[one].x <= layout.width - width / 2 + 0.1
        assert spots[one].top + height <= layout.height + 0.1
        for two in range(one):
            apart = abs(spots[one].x - spots[two].x) - (width + sizes[two][0]) / 2
            assert layers[one] != layers[two] or apart > 0
            if layers[one] > layers[two]:
                assert spots[one].top > spots[two].top + sizes[two][1]
    assert len(layout.edges) == sum(map(len, before))
    for one, two, waypoints in layout.edges:
        tops = [spots[one].top, *(spot.top for spot in waypoints), spots[two].top]
        assert tops == sorted(set(tops))
        assert len(waypoints) == layers[two] - layers[one] - 1


def test_every_box_and_edge_of_the_saga_is_in_the_svg() -> None:
    svg = draw_svg(compile_document(SOURCE.read_bytes(), "application/yaml").picture())
    boxes = rectangles(svg)
    assert len(boxes) == 9
    for at, (left, top, right, bottom) in enumerate(boxes):
        for other in boxes[:at]:
            outside = right <= other[0] or left >= other[2] or bottom <= other[1] or top >= other[3]
            assert outside
    assert svg.count('class="edge"') == 9


def rails(*tasks: Row) -> list[str]:
    return draw_text(picture(*tasks)).splitlines()[1:]


def test_rails_branch_pass_and_join() -> None:
    drawn = rails(
        {"id": "a"},
        {"id": "b", "depends_on": ["a"]},
        {"id": "c", "depends_on": ["a"]},
        {"id": "d", "depends_on": ["b", "c"]},
        {"id": "e", "depends_on": ["a", "d"]},
        {"id": "f"},
    )
    assert drawn == [
        "○ a  x",
        "│ ○ f  x",
        "├─● b  x",
        "├─│─● c  x",
        "│ ●─╯ d  x",
        "●─╯ e  x",
    ]


def test_a_thousand_tasks_stay_readable() -> None:
    wide = picture(
        {"id": "s"},
        *({"id": f"t{n}", "v": "{{s.x}}"} for n in range(1000)),
        {"id": "j", "depends_on": [f"t{n}" for n in range(1000)]},
    )
    assert draw_text(wide) == (
        "w: 1002 tasks in 3 layers\n○ s  x\n● t0 … t999  1000 tasks of x\n● j  x\n"
    )
    assert len(rectangles(draw_svg(wide))) == 3
    chance = random.Random(3)
    dense = picture(
        *(
            {
                "id": f"l{layer}_{n}",
                "depends_on": chance.sample([f"l{layer - 1}_{m}" for m in range(40)], 12)
                if layer
                else [],
            }
            for layer in range(25)
            for n in range(40)
        )
    )
    lines = draw_text(dense).splitlines()
    assert lines[0] == "w: 1000 tasks in 25 layers"
    assert max(map(len, lines)) < 100
    assert lines[-1].startswith("  25  l24_39  x  ← l23_")
    assert lines[-1].endswith(", 8 more")


@pytest.mark.parametrize("draw", [draw_text, draw_mermaid, draw_svg])
def test_the_largest_documents_are_drawn(draw: object) -> None:
    assert callable(draw)
    chain = picture(
        *({"id": f"t{n}", "v": n, "depends_on": [f"t{n - 1}"] if n else []} for n in range(5000))
    )
    assert draw(chain).count("t4999") >= 1


@pytest.mark.parametrize("draw", [draw_text, draw_mermaid, draw_svg])
def test_ten_thousand_different_roots_are_drawn(draw: object) -> None:
    assert callable(draw)
    wide = picture(
        *({"id": f"t{n}", "condition": f"input.n > {n}"} for n in range(10_000)),
        {"id": "j", "depends_on": [f"t{n}" for n in range(10_000)]},
    )
    assert draw(wide).count("t9999") >= 1
