"""A full disk is no end: processes go on, start again, and say so once there is room."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bend_server.config import load
from bend_server.local import log_files, status
from bend_server.local import supervisor as supervisors
from bend_server.local.home import Home
from bend_server.local.mesh import Mesh
from bend_server.local.process import SupervisedProcess
from bend_server.local.start import Unusable, supervise
from bend_server.local.supervisor import Supervisor
from tests.mesh.test_process import spec

FULL = Path("/dev/full")
NO_ROOM = OSError(28, "No space left on device")
LOGGER = """
import logging, os, sys
import structlog
from bend_server.telemetry import logs

logs.configure("one", "info")
for number in range(2000):
    structlog.get_logger().warning("said", number=number)
    logging.getLogger("library").error("said too")
os.write(1, b"went on")
os._exit(0)
"""


@pytest.mark.skipif(not FULL.exists(), reason="only Linux has a device that is always full")
def test_what_cannot_be_logged_ends_nobody() -> None:
    with FULL.open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", LOGGER], stdout=subprocess.PIPE, stderr=full, check=False
        )
    assert (done.returncode, done.stdout) == (0, b"went on")


def test_a_process_that_cannot_be_started_is_tried_again(tmp_path: Path) -> None:
    """Its log cannot be opened: first as on a full disk, then it can."""
    one = spec(tmp_path, "raise SystemExit(7)", ready=False)
    one.log.mkdir()
    faults = []

    def changed(process: SupervisedProcess) -> None:
        if process.condition.state != "restarting":
            return
        faults.append(process.condition.fault)
        if len(faults) == 2:
            one.log.rmdir()
        if not process.condition.fault:
            process.retire()

    process = SupervisedProcess(one, changed)
    asyncio.run(process.run())
    assert faults[0].startswith("cannot be started: ")
    assert (faults[-1], process.condition.exit_code) == ("", 7)


def test_a_program_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    one = spec(tmp_path, "", ready=False)
    one.command[0] = str(tmp_path / "nowhere")
    process = SupervisedProcess(one, lambda _: None)
    asyncio.run(process.run())
    assert process.condition.state == "failed"
    assert "nowhere" in process.condition.fault


def test_the_account_is_written_once_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    supervisor = Supervisor(Mesh(load({}, home=home.root)), lambda _: None)
    with monkeypatch.context() as patch:

        def full(path: Path, content: str) -> None:
            raise NO_ROOM

        patch.setattr(supervisors, "replace", full)
        supervisor._write()
    assert not home.status.exists()
    assert not supervisor._written
    supervisor._write()
    assert supervisor._written
    assert json.loads(home.status.read_text())["pid"] == os.getpid()


def test_logs_stay_when_there_is_no_room_to_move_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "server.log"
    log.write_text("x" * 100)

    def full(source: Path, target: Path) -> None:
        target.write_text("x")
        raise NO_ROOM

    monkeypatch.setattr(shutil, "copy2", full)
    assert not log_files.rotate(log, bytes_max=10)
    assert [file.name for file in tmp_path.iterdir()] == ["server.log"]
    assert log.read_text() == "x" * 100


def test_status_believes_the_machine_rather_than_an_old_account(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    here = {"state": "running", "restarts": 0, "address": "", "log": ""}
    processes = [{"name": "nats", "pid": os.getpid()}, {"name": "server", "pid": ended.pid}]
    home.status.write_text(json.dumps({"processes": [here | one for one in processes]}))
    with home.hold():
        nats, server = status.read(home)["processes"]
    assert (nats["pid"], nats["state"]) == (os.getpid(), "running")
    assert (server["pid"], server["state"], server["rss_bytes"]) == (None, "restarting", 0)


@pytest.mark.parametrize("below", ["a-file", "a-file/home"])
def test_a_data_folder_that_cannot_be_one_is_said(tmp_path: Path, below: str) -> None:
    (tmp_path / "a-file").write_text("")
    with pytest.raises(Unusable, match=r"the data folder .* cannot be used: "):
        supervise(load({}, home=tmp_path / below), lambda _: None)
