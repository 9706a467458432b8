"""The code of docs/components.md does what the page says."""

from pathlib import Path

import pytest

from bend.cli.main import cli
from bend.v1.registry_service_pb2 import ContractChange
from tests.kit.documents import blocks
from tests.kit.projects import passed_tests

PAGE = Path(__file__).parents[2] / "docs" / "components.md"


def test_its_component_passes_its_tests(tmp_path: Path) -> None:
    written = [block for block in blocks(PAGE) if block.title]
    assert [block.title for block in written] == ["component.py", "test_component.py"]
    for block in written:
        (tmp_path / block.title).write_text(block.text)
    assert "3 passed" in passed_tests(tmp_path)


def test_it_names_every_kind_of_change() -> None:
    text = PAGE.read_text()
    for kind in ContractChange.Kind.keys()[1:]:
        assert f"`{kind}`" in text, kind


@pytest.mark.parametrize(
    "line",
    [
        line.partition("#")[0]
        for block in blocks(PAGE)
        if block.language == "sh"
        for line in block.text.splitlines()
        if line.startswith("bend ")
    ],
)
def test_its_commands_exist(line: str) -> None:
    """Each is parsed as it stands; `--help` keeps it from doing anything."""
    _, *arguments = line.split()
    group = cli.get_command(None, arguments[0])  # type: ignore[arg-type]
    command = group.get_command(None, arguments[1])  # type: ignore[union-attr, arg-type]
    assert command is not None
    command.make_context(arguments[1], arguments[2:])
