"""Driver `process`: instances are programs beside the executor, each a process group of its own.

They do not outlive the executor: the kernel ends a program with it, and what a program had
started is ended when the next executor looks for the marks in `run/pools.json`.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

from bend_server.executor.pools import confinement
from bend_server.executor.pools.driver import DriverFault, Unit
from bend_server.executor.pools.spec import PoolSpec

MARK = "BEND_POOL_INSTANCE"
# Of our own environment, only what programs need to find files and to speak a language.
KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "VIRTUAL_ENV")
LOG_BYTES_MAX = 16 * 1024 * 1024
MIB = 1024 * 1024

Access = Callable[[str], Mapping[str, str]]
"""Returns the variables by which a component reaches the mesh; raises OSError, ValueError."""


class _Program:
    """One running program, and what was sampled of it."""

    def __init__(self, process: subprocess.Popen[bytes], unit: Unit) -> None:
        self.process = process
        self.unit = unit
        self.sampled: dict[int, psutil.Process] = {}


class ProcessDriver:
    """See `driver.Driver`.

    Args:
        access: gives an instance's certificate and the gateway's address.
        logs: folder of `pool-<pool>-<number>.log`.
        marks: file with the names of what runs, for the next executor.
    """

    outlives = False

    def __init__(self, access: Access, logs: Path, marks: Path) -> None:
        self._access = access
        self._logs = logs
        self._marks = marks
        self._programs: dict[str, _Program] = {}

    async def sweep(self) -> list[str]:
        """End what instances of an earlier executor left; return the names. Once, at the start."""
        try:
            names = set(json.loads(self._marks.read_text()))
        except (OSError, ValueError, TypeError):
            return []
        ended = await asyncio.to_thread(_end_marked, names)
        self._marks.unlink(missing_ok=True)
        return ended

    async def units(self, spec: PoolSpec) -> list[Unit]:
        """See `driver.Driver`."""
        found = []
        for program in list(self._programs.values()):
            if _pool_of(program.unit.name) != spec.name:
                continue
            code = program.process.poll()
            if code is not None:
                ended = _end_text(code)
                if code > 0:
                    # The program has said why, where a person finds it.
                    ended = f"{ended}, see logs/{_log_name(spec.name, program.unit.number)}"
                program.unit = program.unit._replace(
                    alive=False, ended=ended, cpu=0.0, memory_bytes=0
                )
            else:
                cpu, memory = _sample(program)
                program.unit = program.unit._replace(cpu=cpu, memory_bytes=memory)
            found.append(program.unit)
        return found

    async def start(self, spec: PoolSpec, name: str, number: int) -> None:
        """See `driver.Driver`."""
        part = spec.driven
        try:
            variables = await asyncio.to_thread(self._access, spec.component)
            log = self._open_log(spec.name, number)
        except (OSError, ValueError) as error:
            raise DriverFault(f"pool {spec.name}: {error}") from error
        environment = {
            **{key: os.environ[key] for key in KEPT if key in os.environ},
            **variables,
            **part.environment,
            MARK: f"{spec.name}/{name}",
        }
        try:
            _must_exist(part.command[0], part.folder, environment.get("PATH"))
            # In this thread: the kernel ends a child with the thread that made it. Without a
            # function between fork and exec Python does not fork, so this takes no time.
            process = subprocess.Popen(  # noqa: ASYNC220 - see above
                [sys.executable, "-I", "-S", confinement.__file__, _bounds(spec), *part.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=part.folder or None,
                env=environment,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            text = f"pool {spec.name}: {part.command[0]} cannot be started: {error}"
            raise DriverFault(text) from error
        finally:
            os.close(log)
        unit = Unit(
            name,
            number,
            f"pid {process.pid}",
            alive=True,
            started_us=time.time_ns() // 1000,
            made_from=spec.fingerprint,
        )
        self._programs[name] = _Program(process, unit)
        self._write_marks()

    async def ask(self, spec: PoolSpec, name: str) -> None:
        """See `driver.Driver`: only the program itself is told, it knows its children."""
        program = self._programs.get(name)
        if program is not None and program.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                program.process.send_signal(signal.SIGTERM)
            program.unit = program.unit._replace(asked=True)

    async def kill(self, spec: PoolSpec, name: str) -> None:
        """See `driver.Driver`."""
        program = self._programs.get(name)
        if program is not None:
            _end_group(program.process.pid)

    async def remove(self, spec: PoolSpec, name: str) -> None:
        """See `driver.Driver`: what the program had started ends with it."""
        program = self._programs.pop(name, None)
        if program is not None:
            _end_group(program.process.pid)
            self._write_marks()

    async def close(self) -> None:
        """See `driver.Driver`."""
        for name in list(self._programs):
            program = self._programs.pop(name)
            _end_group(program.process.pid)
            await asyncio.to_thread(program.process.wait)
        self._marks.unlink(missing_ok=True)

    def _open_log(self, pool: str, number: int) -> int:
        self._logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = self._logs / _log_name(pool, number)
        if file.exists() and file.stat().st_size > LOG_BYTES_MAX:
            file.replace(file.with_name(f"{file.name}.1"))
        return os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def _write_marks(self) -> None:
        marks = [f"{_pool_of(name)}/{name}" for name in self._programs]
        fresh = self._marks.with_suffix(".new")
        try:
            fresh.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh.write_text(json.dumps(marks))
            fresh.replace(self._marks)
        except OSError as error:
            raise DriverFault(f"{self._marks} cannot be written: {error}") from error


def _pool_of(name: str) -> str:
    return name.rsplit("-", 2)[0]


def _log_name(pool: str, number: int) -> str:
    return f"pool-{pool}-{number}.log"


def _must_exist(program: str, folder: str, path: str | None) -> None:
    """Raise FileNotFoundError for a program that cannot be found: no exit code says it so well."""
    place = Path(folder, program) if folder and os.sep in program else program
    if shutil.which(place, path=path) is None:
        raise FileNotFoundError("there is no such program")


def _end_text(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def _end_group(pid: int) -> None:
    # Its children are in its group; one that left the group is found by its mark later.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _sample(program: _Program) -> tuple[float, int]:
    """Return processors and bytes in use by a program and its children since the last look."""
    cpu, memory = 0.0, 0
    sampled: dict[int, psutil.Process] = {}
    try:
        leader = program.sampled.get(program.process.pid) or psutil.Process(program.process.pid)
        family = [leader, *leader.children(recursive=True)]
    except psutil.Error:
        return 0.0, 0
    for fresh in family:
        known = program.sampled.get(fresh.pid)
        # The old object remembers the times of the last look; a reused pid is not equal to it.
        process = known if known is not None and known == fresh else fresh
        with contextlib.suppress(psutil.Error):
            cpu += process.cpu_percent() / 100
            memory += process.memory_info().rss
            sampled[process.pid] = process
    program.sampled = sampled
    return cpu, memory


def _bounds(spec: PoolSpec) -> str:
    resources = spec.message.resources
    return json.dumps(
        {
            "parent": os.getpid(),
            "nice": spec.driven.nice,
            "memory_bytes": resources.memory_mib * MIB,
            "open_files": resources.open_files,
        }
    )


def _end_marked(names: set[str]) -> list[str]:
    """End every process of ours whose environment carries one of the marks."""
    ended = []
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            mark = process.environ().get(MARK, "")
            if mark in names and process.pid != os.getpid():
                process.kill()
                found.append(process)
                ended.append(mark)
    psutil.wait_procs(found, timeout=5.0)
    return sorted(set(ended))
