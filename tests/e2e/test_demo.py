"""`make demo` on the folders that people give it: the samples, an empty one, unreadable files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bend_server.bench.lock import heavy

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]


def demo(home: Path, *folder: Path) -> str:
    """Run the demo on a home of its own; return all that it printed."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("BEND_")}
    env["BEND_HOME"] = str(home)
    with heavy():
        done = subprocess.run(
            [sys.executable, str(ROOT / "examples/file_triage/demo.py"), *map(str, folder)],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=220,
            check=False,
        )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def test_the_samples_that_lie_are_found(tmp_path: Path) -> None:
    printed = demo(tmp_path / "home")
    assert "9 files identified, 2 names lie" in printed
    assert "| holiday.jpg | jpg | **zip** |" in printed
    assert "| invoice.pdf | pdf | **shell** |" in printed
    assert "Alarm: completed." in printed


def test_an_empty_folder_and_many_files(tmp_path: Path) -> None:
    """Two runs on one home; the second has payloads that travel by reference."""
    empty = tmp_path / "empty"
    empty.mkdir()
    printed = demo(tmp_path / "home", empty)
    assert "0 files identified, 0 names lie" in printed
    assert "Alarm: skipped." in printed
    many = tmp_path / "many"
    many.mkdir()
    text = "A letter about nothing in particular, long enough to be taken for text.\n" * 3
    for number in range(2000):
        (many / f"letter-{number:05}.txt").write_text(text, encoding="utf-8")
    broken = many / "secret.txt"
    broken.symlink_to(tmp_path / "nowhere")
    printed = demo(tmp_path / "home", many)
    assert "2000 files identified, 0 names lie" in printed
