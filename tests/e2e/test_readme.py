"""The README's tour is run as it stands: a block that does not work is a broken promise."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bend_server.bench.lock import heavy
from tests.kit.documents import blocks

ROOT = Path(__file__).resolve().parents[2]
PATH_LINE = re.compile(r'^export PATH="\$PWD/\.venv/bin:\$PATH"$', re.MULTILINE)


def tour() -> tuple[dict[str, str], str]:
    """Return the files that the README shows, and its shell blocks as one script."""
    files: dict[str, str] = {}
    script = []
    for language, title, text in blocks(ROOT / "README.md"):
        if title:
            files[title] = text
        elif language == "bash":
            script.append(text)
    return files, "\n".join(script)


@pytest.mark.heavy
@pytest.mark.timeout(900)
def test_the_five_minutes_of_the_readme_work(tmp_path: Path) -> None:
    files, script = tour()
    assert len(files) >= 4
    assert PATH_LINE.search(script)
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    # The clone's own .venv may have another name under test; the tour's line is replaced.
    script = PATH_LINE.sub(f'export PATH="{Path(sys.executable).parent}:$PATH"', script)
    env = {k: v for k, v in os.environ.items() if not k.startswith("BEND_")}
    env["BEND_HOME"] = str(tmp_path / "home")
    log = tmp_path / "tour.log"
    with heavy(), log.open("wb") as output:
        done = subprocess.run(
            ["bash", "-m", "-eu", "-o", "pipefail", "-c", script],
            cwd=tmp_path,
            env=env,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=300,
            check=False,
        )
    text = log.read_text(encoding="utf-8", errors="replace")
    assert done.returncode == 0, text[-4000:]
    assert '"status":"completed"' in text.replace('": "', '":"')
    assert "event: " in text or "data: " in text
    assert "COMPLETED" in text
    assert "Hello, Edsger" in text
    assert "Hello, all 3 of you" in text
