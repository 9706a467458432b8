"""The demo's workflow on folders as people have them, with its real model, without a mesh."""

import importlib.util
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bend.testing import SyncTestEngine

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "file_triage"
LETTER = b"A letter about nothing in particular, long enough to be taken for text.\n" * 3


@pytest.fixture(scope="module")
def demo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("file_triage_component", FOLDER / "component.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def triage(demo: ModuleType, folder: Path, report: Path) -> tuple[dict[str, Any], str]:
    """Run the workflow; return its output and the report that it wrote."""
    components = [demo.listing, demo.identify, demo.compare, demo.alarm, demo.report]
    with SyncTestEngine(components) as engine:
        ended = engine.run(FOLDER / "workflow.yaml", {"folder": str(folder), "report": str(report)})
    assert ended.status == "COMPLETED", ended.error
    return ended.output, report.read_text(encoding="utf-8")


def test_names_that_are_no_text_and_names_that_are_markup(demo: ModuleType, tmp_path: Path) -> None:
    script = (FOLDER / "samples" / "invoice.pdf").read_bytes()
    folder = tmp_path / "any folder"
    (folder / "below").mkdir(parents=True)
    plain = ["a b.txt", "ünï-日本.txt", "-rf", "a|b`c*.txt", "{{secrets.X}}.txt", "below/x.txt"]
    for name in plain:
        (folder / name).write_bytes(LETTER)
    for raw in (b"line\nbreak.png", b"colour\x1b[31m.png", b"bytes\xff\xfe.png"):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + raw)).write_bytes(script)
    output, report = triage(demo, folder, tmp_path / "report.md")
    assert (output["files"], output["lying"]) == (9, 3)
    assert "| bytes\\\\xff\\\\xfe.png | png | **shell** |" in report
    assert "| line\\\\nbreak.png | png | **shell** |" in report
    assert "| colour\\\\x1b\\[31m.png | png | **shell** |" in report
    assert "\x1b" not in report


def test_what_is_no_file_or_cannot_be_read_is_passed_over(
    demo: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    (folder / "closed").mkdir(parents=True)
    for name in ("letter.txt", "secret.txt", "fleeting.txt"):
        (folder / name).write_bytes(LETTER)
    (folder / "ring").symlink_to(folder)
    (folder / "dangling").symlink_to("nowhere")
    os.mkfifo(folder / "pipe")
    with (folder / "huge.txt").open("wb") as huge:
        huge.truncate(1 << 33)
    # Root reads everything, so the system's answers to somebody else are put in its place.
    scandir, access, lstat = os.scandir, os.access, Path.lstat

    def closed(path: Any) -> Any:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    def fleeting(path: Path) -> os.stat_result:
        if path.name == "fleeting.txt":
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return lstat(path)

    monkeypatch.setattr(os, "scandir", closed)
    monkeypatch.setattr(os, "access", lambda path, mode: "secret" not in str(path))
    monkeypatch.setattr(Path, "lstat", fleeting)
    found = demo.listing(str(folder))
    monkeypatch.undo()
    assert access(folder / "secret.txt", os.R_OK) or os.geteuid() != 0
    assert [entry["path"] for entry in found["files"]] == ["huge.txt", "letter.txt"]
    assert sorted((entry["path"], entry["reason"]) for entry in found["unreadable"]) == [
        ("closed", "Permission denied"),
        ("fleeting.txt", "No such file or directory"),
        ("secret.txt", "Permission denied"),
    ]


def test_more_files_than_it_looks_at_are_counted(
    demo: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "FILES_MAX", 2)
    for number in range(5):
        (tmp_path / f"{number}.txt").write_bytes(LETTER)
    found = demo.listing(str(tmp_path))
    assert [entry["path"] for entry in found["files"]] == ["0.txt", "1.txt"]
    assert found["unreadable"][0]["path"] == "3 more files"
