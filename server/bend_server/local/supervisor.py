"""Runs a mesh: starts its processes, keeps them running, stops them in order."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Callable
from typing import Literal

from bend_server.config import masked_url
from bend_server.local import leftovers, log_files
from bend_server.local.home import replace
from bend_server.local.http_probe import ask
from bend_server.local.mesh import Mesh
from bend_server.local.ports import choosing
from bend_server.local.process import ProcessSpec, SupervisedProcess

START_S = 120.0
"""For all processes together, from the first one's start: also on a small, busy machine."""
STOP_S = 30.0
ROTATE_S = 30.0
RENEW_S = 24 * 3600.0
DRAIN_S = 1.0
ORDER_OF_STOP = ("components", "executor", "envoy", "server", "engine", "registry", "nats")

Say = Callable[[str], None]


class StartFailed(Exception):
    """The mesh did not become ready; the text says what is missing and where to look."""


class StartRefused(StartFailed):
    """A process refuses its configuration: trying again is useless."""


class Supervisor:
    """Supervises one mesh whose home is held by us.

    Args:
        mesh: not prepared yet.
        say: shows one line to the person who started it.
        stop_s: seconds that an ordered stop may take in all.
    """

    def __init__(self, mesh: Mesh, say: Say, stop_s: float = STOP_S) -> None:
        self._mesh = mesh
        self._say = say
        self._stop_s = stop_s
        self._processes: list[SupervisedProcess] = []
        self._written = True
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Start everything, say `ready …`, go on until SIGTERM or SIGINT, stop in order.

        Raises:
            StartFailed: it did not become ready in time, or refused its configuration.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._stop.set)
        for name in leftovers.end(self._mesh.home.status):
            self._say(f"{name}: left from a mesh that was killed, ended")
        tasks: list[asyncio.Task[None]] = []
        try:
            with choosing():
                self._mesh.prepare()
                self._processes = [
                    SupervisedProcess(spec, self._changed) for spec in self._mesh.processes()
                ]
                tasks = [asyncio.create_task(self._start(one)) for one in self._processes]
                deadline = loop.time() + START_S
                await self._first_ready(tasks, ("envoy",), deadline)
            everybody = tuple(one.spec.name for one in self._processes)
            await self._first_ready(tasks, everybody, deadline)
            if not self._stop.is_set():
                home = self._mesh.home
                replace(home.endpoints, self._mesh.endpoints(os.getpid()))
                self._write()
                self._say(f"ready {self._mesh.https_url} {self._mesh.http_url}".rstrip())
                await self._upkeep()
        finally:
            self._mesh.home.endpoints.unlink(missing_ok=True)
            await self._stop_all()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._write()

    async def _start(self, process: SupervisedProcess) -> None:
        """Run a process, the first time once the one that it names is ready."""
        for other in self._processes:
            if other.spec.name == process.spec.after:
                await other.is_ready.wait()
        await process.run()

    async def _first_ready(
        self, tasks: list[asyncio.Task[None]], names: tuple[str, ...], deadline: float
    ) -> None:
        """Return when all of these are ready, or a stop is wished; `deadline` is loop time."""
        wanted = [one for one in self._processes if one.spec.name in names]
        waits = [asyncio.create_task(one.is_ready.wait()) for one in wanted]
        stop = asyncio.create_task(self._stop.wait())
        all_ready = asyncio.create_task(_all(waits))
        try:
            async with asyncio.timeout_at(deadline):
                # A run() that returns by itself refused its configuration.
                await asyncio.wait([all_ready, stop, *tasks], return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            pass
        finally:
            stop.cancel()
            for wait in waits:
                wait.cancel()
            await asyncio.gather(all_ready, stop, return_exceptions=True)
        if self._stop.is_set() or all(one.is_ready.is_set() for one in wanted):
            return
        refused = any(one.condition.state == "failed" for one in wanted)
        raise (StartRefused if refused else StartFailed)(self._missing(wanted))

    def _missing(self, wanted: list[SupervisedProcess]) -> str:
        late = [one for one in wanted if not one.is_ready.is_set()]
        failed = [one for one in late if one.condition.state == "failed"] or late[:1]
        lines = []
        for one in failed:
            state = one.condition.fault or one.condition.state
            lines.append(f"{one.spec.name} is not ready ({state}); see {one.spec.log}")
            lines += [f"  {line}" for line in log_files.tail(one.spec.log, 5)]
        return "\n".join(lines)

    def _changed(self, process: SupervisedProcess) -> None:
        condition, spec = process.condition, process.spec
        line = ""
        if condition.state == "running":
            line = f"{spec.name}: running, pid {condition.pid}"
            line += f", {spec.address}" if spec.address else ""
        elif condition.state == "restarting":
            ended = condition.fault or f"ended ({_exit_text(condition.exit_code)})"
            line = f"{spec.name}: {ended}, starting again"
        elif condition.state in {"failed", "stopped"}:
            line = f"{spec.name}: {condition.state}"
            line += f", {condition.fault}" if condition.fault else ""
        if line:
            self._say(line)
        self._write()

    def _write(self) -> None:
        """Write the account of now; small, and only at changes.

        On a full disk it is written later: the processes matter more than the account of them.
        """
        pids = {one.spec.name: one.condition.pid for one in self._processes if one.condition.pid}
        document = {
            "version": 1,
            "pid": os.getpid(),
            "urls": {"https": self._mesh.https_url, "http": self._mesh.http_url},
            "database": masked_url(self._mesh.settings.database),
            "processes": [
                {
                    "name": one.spec.name,
                    "pid": one.condition.pid,
                    "state": one.condition.state,
                    "restarts": one.condition.restarts,
                    "address": one.spec.address,
                    "log": str(one.spec.log),
                }
                for one in self._processes
            ],
            "recorded": leftovers.record(pids),
        }
        try:
            replace(self._mesh.home.status, json.dumps(document))
        except OSError:
            self._written = False
        else:
            self._written = True

    async def _upkeep(self) -> None:
        """Rotate logs and renew certificates until a stop is wished."""
        loop = asyncio.get_running_loop()
        renew_at = loop.time() + RENEW_S
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ROTATE_S):
                    await self._stop.wait()
            if not self._written:
                self._write()
            for spec in self._specs():
                log_files.rotate(spec.log)
            if loop.time() >= renew_at:
                renew_at = loop.time() + (RENEW_S if self._renew() else ROTATE_S)

    def _renew(self) -> bool:
        """Renew certificates; everybody but nats-server sees by the files that they changed.

        Returns:
            False when they cannot be written now: they are good for long yet, try again.
        """
        try:
            renewed = self._mesh.authority.renew()
        except OSError as error:
            self._say(f"certificates cannot be renewed now: {error}")
            return False
        for file in renewed:
            self._say(f"certificate {file.name}: renewed")
        if any(file.stem == "nats" for file in renewed):
            for one in self._processes:
                if one.spec.name == "nats":
                    one.signal(signal.SIGHUP)
        return True

    def _specs(self) -> list[ProcessSpec]:
        return [one.spec for one in self._processes]

    async def _stop_all(self) -> None:
        """Stop in order, so that nobody loses whom it needs for its own end."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._stop_s
        # None of them may come back while the others end.
        for one in self._processes:
            one.retire()
        by_name = {one.spec.name: one for one in self._processes}
        for name in ORDER_OF_STOP:
            process = by_name.get(name)
            if process is None:
                continue
            if name == "envoy":
                await self._drain(deadline - loop.time())
            left = max(0.1, deadline - loop.time())
            await process.stop(min(process.spec.stop_s, left))

    async def _drain(self, left_s: float) -> None:
        """Tell the gateway's clients to go; wait until none is served, a second at most."""
        socket = self._mesh.home.admin_socket()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + min(DRAIN_S, max(0.0, left_s))
        if (await ask("/drain_listeners?graceful", socket=socket, method="POST")).status != 200:
            return
        while loop.time() < deadline:
            stats = await ask(
                "/stats?filter=http\\.https?\\.downstream_rq_active", socket=socket, timeout_s=0.5
            )
            if all(
                line.endswith(b": 0") for line in stats.body.splitlines() if b"rq_active" in line
            ):
                return
            await asyncio.sleep(0.05)


async def _all(waits: list[asyncio.Task[Literal[True]]]) -> None:
    await asyncio.gather(*waits)


def _exit_text(code: int | None) -> str:
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-code).name
    return f"exit {code}"
