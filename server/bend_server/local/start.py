"""`bend up` without its command line: in this process, or in one of its own."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bend_server.certificates import CertificateFault
from bend_server.config import Settings
from bend_server.local.home import Home, HomeFault
from bend_server.local.mesh import Mesh
from bend_server.local.ports import PortTaken
from bend_server.local.supervisor import START_S, StartFailed, StartRefused, Supervisor

POLL_S = 0.02
LATE_S = 15.0
USAGE_EXIT = 2
FAULT = "error: "


class AlreadyRuns(Exception):
    """Another supervisor holds this home."""


class Unusable(Exception):
    """The settings, the home or the ports cannot be used; the text says why."""


def supervise(settings: Settings, say: Callable[[str], None]) -> None:
    """Run a mesh until it is told to stop.

    Raises:
        AlreadyRuns: one runs on this home.
        Unusable: settings (also what a process refuses), home or ports.
        StartFailed: it did not become ready.
    """
    home = Home(settings.home)
    try:
        home.prepare()
        with home.hold() as ours:
            if not ours:
                raise AlreadyRuns(str(home.root))
            asyncio.run(Supervisor(Mesh(settings), say).run())
    except (HomeFault, CertificateFault, PortTaken) as error:
        raise Unusable(str(error)) from error
    except StartRefused as error:
        raise Unusable(str(error)) from error
    except OSError as error:
        raise Unusable(_unusable(home, error)) from error


def detach(home: Home, command: Sequence[str], say: Callable[[str], None]) -> None:
    """Start a supervisor in a session of its own; return when its mesh is ready.

    Args:
        home: of the mesh; the supervisor's lines go to its log.
        command: `bend up` without `--detach`, as a command line.
        say: shows the supervisor's lines as they come.

    Raises:
        StartFailed: it ended, or was not ready in time. It is ended then.
        Unusable: the home cannot be used.
    """
    try:
        home.prepare()
    except HomeFault as error:
        raise Unusable(str(error)) from error
    except OSError as error:
        raise Unusable(_unusable(home, error)) from error
    log = home.log("supervisor")
    offset = log.stat().st_size if log.exists() else 0
    with log.open("ab") as out:
        process = subprocess.Popen(
            list(command), stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    deadline = time.monotonic() + START_S + LATE_S
    rest, faults = "", list[str]()
    while True:
        ended = process.poll() is not None
        text, offset = _more(log, offset)
        *lines, rest = (rest + text).split("\n")
        for line in lines:
            if line.startswith(FAULT) or faults:
                faults.append(line.removeprefix(FAULT))
                continue
            say(line)
            if line.startswith("ready "):
                return
        if ended:
            text = "\n".join(faults).strip() or f"the mesh ended; see {log}"
            raise Unusable(text) if process.returncode == USAGE_EXIT else StartFailed(text)
        if time.monotonic() > deadline:
            process.terminate()
            raise StartFailed(f"not ready in {START_S:.0f} s; see {log}")
        time.sleep(POLL_S)


def up_command(home: Path, flags: Sequence[str]) -> list[str]:
    """Return the command line of a supervisor in the foreground, with this very Python."""
    return [sys.executable, "-m", "bend_server.local", f"--home={home}", *flags]


def _unusable(home: Home, error: OSError) -> str:
    """Say what is wrong with a data folder: read-only, full, not a folder, somebody else's."""
    place = f" ({error.filename})" if error.filename else ""
    return f"the data folder {home.root} cannot be used: {error.strerror or error}{place}"


def _more(log: Path, offset: int) -> tuple[str, int]:
    with log.open("rb") as file:
        file.seek(offset)
        data = file.read()
    return data.decode("utf-8", "replace"), offset + len(data)
