"""Secrets from files and the environment. If these fail, tasks get old, wrong or foreign values."""

import asyncio
from pathlib import Path

import pytest

from bend_server.core import limits
from bend_server.core.errors import DependencyDown
from bend_server.executor.providers import FileSecrets, SecretProviders, secret_providers


def read(secrets: FileSecrets | SecretProviders, name: str) -> str | None:
    return asyncio.run(secrets.get("default", name))


def test_a_file_is_a_secret_and_files_win(tmp_path: Path) -> None:
    (tmp_path / "TOKEN").write_text("from the file\n")
    environment = {"BEND_SECRET_TOKEN": "from outside", "BEND_SECRET_OTHER": "also"}
    secrets = secret_providers(environment, tmp_path)
    assert read(secrets, "TOKEN") == "from the file"
    assert read(secrets, "OTHER") == "also"
    assert read(secrets, "MISSING") is None
    assert read(secret_providers(environment, None), "TOKEN") == "from outside"


def test_one_line_end_is_not_part_of_a_secret(tmp_path: Path) -> None:
    secrets = FileSecrets(tmp_path)
    for content, value in (
        ("a\n", "a"),
        ("a\r\n", "a"),
        ("a\n\n", "a\n"),
        (" a ", " a "),
        ("", ""),
    ):
        (tmp_path / "S").write_bytes(content.encode())
        assert read(FileSecrets(tmp_path), "S") == value
    assert read(secrets, "S") == ""


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    """A rotated password must not need a restart; Kubernetes replaces a link."""
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, value in ((first, "old"), (second, "new")):
        folder.mkdir()
        (folder / "S").write_text(value)
    data = tmp_path / "..data"
    data.symlink_to(first)
    (tmp_path / "S").symlink_to(data / "S")
    secrets = FileSecrets(tmp_path)
    assert read(secrets, "S") == "old"
    data.unlink()
    data.symlink_to(second)
    assert read(secrets, "S") == "new"
    (second / "S").write_text("newer")
    assert read(secrets, "S") == "newer"
    (second / "S").unlink()
    assert read(secrets, "S") is None


@pytest.mark.parametrize("name", ["../outside", "..", ".", "a/b", "", "a b", "x" * 200, "a.b"])
def test_a_name_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    (tmp_path / "outside").write_text("no")
    folder = tmp_path / "secrets"
    folder.mkdir()
    assert read(FileSecrets(folder), name) is None


def test_what_is_no_secret_is_absent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "LARGE").write_bytes(b"x" * (limits.SECRET_BYTES_MAX + 1))
    (tmp_path / "BYTES").write_bytes(b"value\xff")
    (tmp_path / "FOLDER").mkdir()
    (tmp_path / "FITS").write_bytes(b"x" * limits.SECRET_BYTES_MAX)
    secrets = FileSecrets(tmp_path)
    for name in ("LARGE", "BYTES", "FOLDER"):
        assert read(secrets, name) is None, name
    assert read(secrets, "FITS") == "x" * limits.SECRET_BYTES_MAX
    said = capsys.readouterr().out
    assert "LARGE" in said
    assert "value" not in said


def test_a_folder_may_come_later(tmp_path: Path) -> None:
    secrets = FileSecrets(tmp_path / "later")
    assert read(secrets, "S") is None
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "S").write_text("here")
    assert read(secrets, "S") == "here"


def test_a_provider_that_is_away_is_not_passed_over() -> None:
    """The next one could have another value under the same name."""

    class Away:
        async def get(self, namespace: str, name: str) -> str | None:
            raise DependencyDown("away")

    with pytest.raises(DependencyDown):
        read(SecretProviders([Away(), secret_providers({"BEND_SECRET_S": "x"}, None)]), "S")
