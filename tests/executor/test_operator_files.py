"""If these fail, a slip in pools.yaml or listeners.yaml stops what runs, or nobody hears of it."""

from pathlib import Path
from typing import Any

import pytest

from bend.errors import ConfigurationError
from bend_server.executor import operator_files
from bend_server.executor.operator_files import FollowedFile, read_file


def parse(document: Any) -> list[int]:
    if document is None:
        return []
    if not isinstance(document, list):
        raise TypeError("a list is wanted")
    return [int(one) for one in document]


def read(path: Path) -> list[int]:
    return read_file(path, parse)


def test_a_missing_file_and_an_empty_one_are_nothing(tmp_path: Path) -> None:
    file = tmp_path / "file.yaml"
    assert read(file) == []
    file.write_text("# nothing yet\n", encoding="utf-8")
    assert read(file) == []


@pytest.mark.parametrize("text", ["{", "a: 1", "[x]"])
def test_a_wrong_file_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "file.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"file\.yaml"):
        FollowedFile(file, read)


class Log:
    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, str]]] = []

    def error(self, event: str, **fields: str) -> None:
        self.lines.append((event, fields))


def test_changes_are_followed_and_a_wrong_one_is_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log()
    monkeypatch.setattr(operator_files, "_log", log)
    file = tmp_path / "file.yaml"
    followed = FollowedFile(file, read)
    assert not followed.refresh()
    file.write_text("[1, 2]", encoding="utf-8")
    assert followed.refresh()
    assert followed.content == [1, 2]
    file.write_text("[1, 2, three]", encoding="utf-8")
    assert not followed.refresh()
    assert not followed.refresh()
    assert followed.content == [1, 2]
    [(event, fields)] = log.lines
    assert event == "operator_file_wrong"
    assert str(file) in fields["error"]
    file.unlink()
    assert followed.refresh()
    assert followed.content == []
