"""Pieces of the supervisor by themselves: home, ports, leftovers, logs, durations."""

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from bend_server.local import leftovers, log_files, ports
from bend_server.local.home import FORMAT, SOCKET_BYTES_MAX, Home, HomeFault

REAL_SOCKET = socket.socket


def test_home_is_private_and_survives_a_second_use(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    (home.root / "bend.db").write_text("data")
    home.prepare()
    assert home.root.stat().st_mode & 0o777 == 0o700
    assert (home.root / "bend.db").read_text() == "data"
    assert not (home.root / "backups").exists()


def test_newer_home_is_refused_and_older_one_backed_up(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    (home.root / "format").write_text(f"{FORMAT + 1}\n")
    with pytest.raises(HomeFault, match="newer release"):
        home.prepare()
    (home.root / "format").write_text(f"{FORMAT - 1}\n")
    (home.root / "bend.db").write_text("old")
    home.prepare()
    assert (home.root / "backups" / f"format-{FORMAT - 1}" / "bend.db").read_text() == "old"
    assert int((home.root / "format").read_text()) == FORMAT


def test_only_one_holds_a_home_and_a_look_disturbs_nobody(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    assert not home.held()
    with home.hold() as first:
        assert first
        assert home.held()
        with home.hold() as second:
            assert not second
    stop = threading.Event()
    looking = threading.Thread(target=lambda: [home.held() for _ in iter(stop.is_set, True)])
    looking.start()
    try:
        for _ in range(20):
            with home.hold() as ours:
                assert ours
    finally:
        stop.set()
        looking.join(10)


def test_socket_of_a_deep_home_is_short_and_always_the_same(tmp_path: Path) -> None:
    deep = Home(tmp_path / ("d" * 100) / "home")
    deep.prepare()
    path = deep.admin_socket()
    assert len(os.fsencode(path)) <= SOCKET_BYTES_MAX
    assert path == Home(deep.root).admin_socket()
    with socket.socket(socket.AF_UNIX) as listener:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
    path.unlink()


def test_purge_removes_ours_and_keeps_the_rest(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    (home.root / "bend.db-wal").write_text("x")
    (home.models / "mine").mkdir()
    assert home.purge()
    assert [path.name for path in home.root.iterdir()] == ["models"]


def test_purge_leaves_a_folder_alone_where_no_mesh_was(tmp_path: Path) -> None:
    """`bend down --purge` in a project that has a folder `logs` of its own."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "mine.log").write_text("x")
    assert not Home(tmp_path).purge()
    assert (tmp_path / "logs" / "mine.log").exists()


def test_usual_port_or_its_neighbour_but_the_asked_one_or_none() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        assert port < ports.choose(None, port) < port + ports.NEIGHBOURS
        with pytest.raises(ports.PortTaken, match=str(port)):
            ports.choose(port, ports.HTTPS_USUAL)
    found = ports.inner(5)
    assert len(set(found)) == 5
    assert all(port in ports.INNER for port in found)


def test_asking_whether_a_port_is_free_stands_in_nobodys_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A readiness check asks while the server begins to listen: it must not take the port."""
    (port,) = ports.inner(1)
    servers: list[socket.socket] = []

    class Probe(socket.socket):
        def __exit__(self, *error: object) -> None:
            if not servers:
                servers.append(server := REAL_SOCKET())
                server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                server.bind(("127.0.0.1", port))
                server.listen(5)
            super().__exit__(*error)

    monkeypatch.setattr(socket, "socket", Probe)
    try:
        assert ports.free(port)
        assert not ports.free(port)
    finally:
        for server in servers:
            server.close()
    assert ports.free(port)


def test_leftovers_are_ended_only_when_they_are_the_same_process(tmp_path: Path) -> None:
    sleepers = [
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) for _ in range(2)
    ]
    try:
        entries = leftovers.record({"a": sleepers[0].pid, "b": sleepers[1].pid, "gone": 2**22 - 1})
        assert [entry["name"] for entry in entries] == ["a", "b"]
        # A pid that the system gave to somebody else meanwhile.
        entries[1]["created"] = psutil.Process(sleepers[1].pid).create_time() - 100
        file = tmp_path / "status.json"
        file.write_text(json.dumps({"recorded": entries}))
        assert leftovers.end(file) == ["a"]
        sleepers[0].wait(10)
        assert sleepers[1].poll() is None
        assert leftovers.end(tmp_path / "missing.json") == []
        file.write_text("not json")
        assert leftovers.end(file) == []
    finally:
        for sleeper in sleepers:
            sleeper.kill()
            sleeper.wait(10)


def test_long_logs_are_moved_aside_while_their_writer_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    with log.open("ab", buffering=0) as writer:
        for round_ in range(5):
            writer.write(b"%d\n" % round_ * 100)
            assert log_files.rotate(log, 150)
            assert not log_files.rotate(log, 150)
        writer.write(b"after\n")
    assert log.read_text() == "after\n"
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ["x.log", "x.log.1", "x.log.2", "x.log.3"]
    assert (tmp_path / "x.log.1").read_text().startswith("4\n")


def test_tail_and_follow(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("1\n2\n3\n")
    assert log_files.tail(log, 2) == ["2", "3"]
    assert log_files.tail(log, 0) == []
    assert log_files.tail(tmp_path / "none.log", 5) == []
    lines = log_files.follow({"a": log, "b": tmp_path / "later.log"}, pause_s=0.01)
    writer = threading.Timer(0.05, lambda: (tmp_path / "later.log").write_text("half whole\n"))
    writer.start()
    assert next(lines) == ("b", "half whole")
    writer.join()
