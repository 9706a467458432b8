"""The operator's file: every mistake names the file and the key."""

import inspect
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml

from bend.components import component_of
from bend.errors import ConfigurationError
from bend_executors import configuration
from bend_executors.__main__ import FOLDERS, services
from bend_executors.service import Service
from tests.kit.documents import blocks


def written(folder: Path, text: str) -> dict[str, str]:
    (folder / "components.yaml").write_text(text, encoding="utf-8")
    return {"BEND_HOME": str(folder), "BEND_SECRET_DB": "s3cret"}


def test_without_a_file_all_sections_are_empty(tmp_path: Path) -> None:
    section = configuration.load({"BEND_HOME": str(tmp_path)}).section("sql")
    assert section.take("rows_max", int, 10) == 10
    section.done()


def test_values_secrets_and_maps_are_read(tmp_path: Path) -> None:
    environment = written(
        tmp_path, "sql: {connections: {a: {url: {secret: DB}, pool: 3, wait: 2}}}\n"
    )
    found = configuration.load(environment).section("sql")
    for name, section in found.sections("connections"):
        assert name == "a"
        assert section.take("url", str) == "s3cret"
        assert section.take("pool", int) == 3
        assert section.take("wait", float) == 2.0
        section.done()
    found.done()


def test_secrets_come_from_files_too(tmp_path: Path) -> None:
    (tmp_path / "TOKEN").write_text("from a file\n", encoding="utf-8")
    environment = {"BEND_SECRETS_DIR": str(tmp_path)}
    assert configuration.secret(environment, "TOKEN") == "from a file"
    assert configuration.secret(environment, "../TOKEN") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", "a map of components"),
        ("sql: 3\n", "'sql' is no map"),
        ("http: {colour: red}\n", "http: unknown key 'colour'"),
        ("htpt: {}\n", "there is no component 'htpt'"),
        ("a: [\n", "cannot be read"),
    ],
)
def test_mistakes_name_their_place(tmp_path: Path, text: str, message: str) -> None:
    environment = written(tmp_path, text)

    def read() -> None:
        configuration.load(environment).section("sql")
        services(environment)

    with pytest.raises(ConfigurationError, match=message):
        read()


def test_a_value_of_another_type_and_a_missing_secret_are_refused(tmp_path: Path) -> None:
    section = configuration.load(written(tmp_path, "s: {n: yes, u: {secret: NONE}}\n")).section("s")
    with pytest.raises(ConfigurationError, match=r"s\.n: int is wanted"):
        section.take("n", int)
    with pytest.raises(ConfigurationError, match=r"s\.u: there is no secret NONE"):
        section.take("u", str)
    with pytest.raises(ConfigurationError, match="'x' is missing"):
        section.take("x", str)


def test_each_component_has_credit_of_its_own(tmp_path: Path) -> None:
    text = "python: {concurrent: 3, isolation: none}\n"
    text += "shell: {enabled: true, concurrent: 2, commands: {e: {program: /bin/true}}}\n"
    text += "sql: {connections: {s: {url: 'sqlite:///s.db', pool: 64}}}\n"
    served = {component_of(one.functions[0]).name: one for one in services(written(tmp_path, text))}
    assert list(served) == list(FOLDERS)
    credit = {name: one.credit for name, one in served.items()}
    # No more scripts wait here, with their clocks running, than sandboxes run.
    assert (credit["python"], credit["shell"], credit["sql"]) == (3, 2, 256)
    assert credit["http"] >= 512
    # All hold something open; what sandboxes have started is ended.
    close(served.values())


def close(served: Iterable[Service]) -> None:
    for one in served:
        assert one.close is not None
        if not inspect.iscoroutinefunction(one.close):
            one.close()


def test_the_file_of_the_operations_page_is_read_by_all_seven(tmp_path: Path) -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "operations.md"
    (text,) = [block.text for block in blocks(page) if block.title == "components.yaml"]
    assert set(yaml.safe_load(text)) == set(FOLDERS)
    served = services(written(tmp_path, text))
    assert [component_of(one.functions[0]).name for one in served] == list(FOLDERS)
    close(served)
