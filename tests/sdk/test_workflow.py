"""The builder writes documents as people do; documents are read from any form."""

from datetime import timedelta
from pathlib import Path

import orjson
import pytest
import yaml

from bend import Workflow
from bend.documents import name_in, read_document
from bend.errors import ConfigurationError


def flow() -> Workflow:
    one = Workflow("report", description="Fetch and write", timeout=timedelta(minutes=5))
    fetch = one.task("fetch", "http", url="{{input.url}}", timeout=timedelta(milliseconds=1500))
    one.task(
        "write",
        "report.write",
        depends_on=[fetch],
        body=fetch.ref("body.items"),
        condition=f"size({fetch.expression('body')}) > 0",
        with_={"timeout": 3},
    )
    return one.output(path="{{write.path}}")


def test_a_builder_gives_the_document() -> None:
    wanted = {
        "name": "report",
        "description": "Fetch and write",
        "output": {"path": "{{write.path}}"},
        "timeout": "300s",
        "tasks": [
            {"id": "fetch", "type": "http", "url": "{{input.url}}", "timeout": "1500ms"},
            {
                "id": "write",
                "type": "report.write",
                "depends_on": ["fetch"],
                "body": "{{fetch.body.items}}",
                "condition": "size(fetch.body) > 0",
                "with": {"timeout": 3},
            },
        ],
    }
    assert flow().to_dict() == wanted
    assert orjson.loads(flow().to_json()) == wanted
    assert yaml.safe_load(flow().to_yaml()) == wanted


def test_an_id_is_taken_once() -> None:
    one = Workflow("w")
    one.task("a", "http")
    with pytest.raises(ValueError, match="'a' is taken"):
        one.task("a", "http")


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"name: flow\ntasks: []", "flow"),
        (b"tasks:\n  - name: inner\n    id: a\nname: 'outer'\n", "outer"),
        (b'{"tasks": [{"name": "inner"}], "labels": {"name": "x"}, "name": "outer"}', "outer"),
        (b"description: name\nname: flow", "flow"),
        (b"? {complex: key}\n: 1\nname: flow", "flow"),
        (b"- name: list", ""),
        (b"just text", ""),
        (b"a: b: c", ""),
        (b"", ""),
        (b"\xff\xfe\x00", ""),
        (b"tasks: []", ""),
    ],
)
def test_the_name_is_found_without_reading_all(data: bytes, name: str) -> None:
    assert name_in(data) == name


def test_documents_in_every_form(tmp_path: Path) -> None:
    path = tmp_path / "flow.yaml"
    path.write_text("name: flow")
    assert read_document(path) == (b"name: flow", "application/yaml", "flow", str(path))
    assert read_document("name: flow").content_type == "application/yaml"
    assert read_document(' {"name": "flow"}').content_type == "application/json"
    assert read_document({"name": "flow"}).data == b'{"name":"flow"}'
    assert read_document(flow()).name == "report"
    with pytest.raises(ConfigurationError, match="No such file"):
        read_document(tmp_path / "none.yaml")
