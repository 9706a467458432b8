"""A folder of wrong files: each says which findings it expects, and `bend validate` prints them."""

import ast
import contextlib
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
from click.testing import CliRunner

from bend_server.cli.validate import validate
from bend_server.language import findings_of
from bend_server.language.json_source import BadText
from bend_server.language.yaml_source import parse_yaml

FOLDER = Path(__file__).with_name("wrong")
FILES = sorted(FOLDER.iterdir())
ROOT = Path(__file__).resolve().parents[2]
EXPECTED = re.compile(r"expect (\d+):(\d+) ([A-Z_]+) (\S+): (.*)")
# Said only where the components' contracts are known.
ONLINE = {"BAD_INPUT", "UNKNOWN_COMPONENT"}


class Expected(NamedTuple):
    """A finding as a file announces it."""

    line: int
    column: int
    reason: str
    path: str
    text: str


def expected(path: Path) -> list[Expected]:
    """Read the announcements: in YAML comments, in JSON the description."""
    text = path.read_bytes().decode(errors="replace")
    if path.suffix == ".json":
        (head,) = re.findall(r'^\{"description": ("(?:[^"\\]|\\.)*"),$', text, re.MULTILINE)
        said = str(orjson.loads(head)).split(" | ")
    else:
        said = [line[2:] for line in text.splitlines() if line.startswith("# expect ")]
    found = [EXPECTED.fullmatch(one) for one in said]
    assert found
    assert all(found)
    return [
        Expected(int(one[1]), int(one[2]), one[3], one[4].removeprefix("-"), one[5])
        for one in found
        if one
    ]


def test_validate_prints_place_and_reason_of_every_wrong_file() -> None:
    result = CliRunner().invoke(validate, [str(FOLDER)])
    assert result.exit_code == 3
    assert result.stdout.splitlines() == [
        f"{path}:{one.line}:{one.column}: {one.reason}: {one.text}"
        for path in FILES
        for one in expected(path)
    ]


@pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])
def test_a_wrong_file_has_reason_path_line_and_column(path: Path) -> None:
    result = CliRunner().invoke(validate, ["--json", str(path)])
    assert result.exit_code == 3
    document = orjson.loads(result.stdout)
    assert not document["valid"]
    assert [
        Expected(one["line"], one["column"], one["reason"], one["path"], one["message"])
        for one in document["findings"]
    ] == expected(path)
    assert path.stem.upper() in {one.reason for one in expected(path)}


def steps_of(path: str) -> list[str | int]:
    """Read a path as findings write it."""
    return [
        int(number) if number else name or str(ast.literal_eval(quoted))
        for name, number, quoted in re.findall(r"\.?([A-Za-z_][\w-]*)|\[(\d+)\]|\[('.*?')\]", path)
    ]


def documents() -> dict[str, tuple[Path, Any]]:
    """Return the wrong YAML files that can be read: what YAML cannot say, JSON cannot either."""
    found = {}
    for path in FILES:
        with contextlib.suppress(BadText, UnicodeDecodeError):
            if path.suffix == ".yaml":
                found[path.name] = path, parse_yaml(path.read_text(encoding="utf-8"))
    return found


DOCUMENTS = documents()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_in_json_the_same_findings_point_at_their_places(name: str) -> None:
    """The same document as JSON: line and column are where its key or value begins."""
    path, document = DOCUMENTS[name]
    text = json.dumps(document, indent=2, ensure_ascii=False)
    found = findings_of(text.encode(), "application/json")
    wanted = sorted((one.reason, one.path, one.text) for one in expected(path))
    assert sorted((one.reason, one.path, one.message) for one in found) == wanted
    lines = text.splitlines()
    for one in found:
        value: Any = document
        steps = steps_of(one.path)
        for step in steps:
            value = value[step]
        here = lines[one.line - 1][one.column - 1 :]
        first = json.dumps(value, indent=2, ensure_ascii=False).splitlines()[0]
        key = f'"{steps[-1]}":' if steps else first
        assert here.startswith((first, key)), (one, here)


def test_every_reason_of_the_language_page_has_a_wrong_file() -> None:
    page = (ROOT / "docs" / "language.md").read_text(encoding="utf-8")
    table = page.split("\n## Findings\n")[1].split("\n## ")[0]
    listed = {
        reason
        for row in table.splitlines()
        if row.startswith("| `")
        for reason in re.findall(r"`([A-Z_]+)`", row.split("|")[1])
    }
    assert listed - ONLINE == {path.stem.upper() for path in FILES}


def test_a_folder_without_documents_is_a_usage_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(validate, [str(tmp_path)])
    assert result.exit_code == 2
    assert "no .yaml, .yml or .json file" in result.stderr


def test_a_folder_of_good_files_is_counted(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    good = b"name: w\ntasks: [{id: a, type: wait, duration: 5s}]\n"
    (tmp_path / "a.yml").write_bytes(good)
    (tmp_path / "deep" / "b.yaml").write_bytes(good)
    (tmp_path / "notes.txt").write_text("not a document")
    result = CliRunner().invoke(validate, [str(tmp_path)])
    assert (result.exit_code, result.stderr) == (0, "2 valid\n")
