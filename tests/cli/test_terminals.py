"""What a person sees: real terminals of several widths, with and without NO_COLOR."""

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

TABLE = """
from bend.cli.console import print_table

print_table(
    ("execution", "workflow", "status", "description"),
    [("triage-913628653773387862", "triage", "COMPLETED", "a text that is long enough to wrap")],
    empty="none",
)
"""
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def seen(width: int, *command: str, code: int = 0, **variables: str) -> str:
    """Run a Python program in a terminal of so many columns; return what it shows."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    hidden = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment |= {"TERM": "xterm-256color"} | variables
    with subprocess.Popen(
        [sys.executable, *command], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    ) as process:
        os.close(theirs)
        shown = bytearray()
        try:
            while piece := os.read(ours, 65_536):
                shown += piece
        except OSError:
            pass  # Linux says so when the last writer has gone
        finally:
            os.close(ours)
    assert process.returncode == code, shown
    return shown.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_what_names_a_row_is_whole_on_every_terminal(width: int) -> None:
    shown = COLOUR.sub("", seen(width, "-c", TABLE))
    assert "triage-913628653773387862" in shown
    assert "COMPLETED" in shown
    assert ("execution" in shown) is (width >= 80)
    if width >= 80:
        assert max(map(len, shown.splitlines())) <= width


@pytest.mark.parametrize("width", [20, 200])
def test_colour_is_for_who_wants_it(width: int) -> None:
    assert "\x1b[32m" in seen(width, "-c", TABLE)


def test_no_color_is_respected_by_every_command(tmp_path: Path) -> None:
    """Statuses of the mesh are coloured by click, which does not know the variable itself."""
    (tmp_path / "run").mkdir()
    entry = {"name": "nats", "pid": 0, "state": "", "restarts": 0, "address": "", "log": ""}
    (tmp_path / "run" / "status.json").write_text(json.dumps({"processes": [entry]}))
    command = ("-m", "bend", "status", "--home", str(tmp_path))
    assert "\x1b[33mstopped" in seen(80, *command, code=1)
    plain = seen(80, *command, code=1, NO_COLOR="1")
    assert "stopped" in plain
    assert "\x1b" not in plain
