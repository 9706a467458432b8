"""Warm sandboxes, of one component's rules: started before they are needed, used once.

A namespace has its own: what was started for one never serves another. The first task of a
namespace starts its sandbox itself; from then on spares stand ready until nobody came for a while.
"""

import asyncio
import concurrent.futures
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bend import RetryableError, TerminalError
from bend.errors import ConfigurationError
from bend_executors.configuration import Section
from bend_executors.sandbox.isolation import Isolation
from bend_executors.sandbox.limits import Rules
from bend_executors.sandbox.process import Busy, Sandbox, Unavailable, detect, started
from bend_executors.sandbox.watching import watch

NAMESPACES_MAX = 16
# Two at once: more would only wait for the processor.
STARTERS = 2
# The executor ends a task at its timeout; where its word does not arrive, the component does.
OVERTIME_S = 2.0

log = logging.getLogger("bend.sandbox")


@dataclass(frozen=True, slots=True)
class Size:
    """How many sandboxes: spares of a namespace, tasks at once, and seconds a spare may wait."""

    warm: int = 2
    concurrent: int = 8
    idle_s: float = 300.0


def read_size(section: Section) -> Size:
    """Read `warm`, `concurrent` and `idle_s`. Raises ConfigurationError."""
    size = Size(
        warm=section.take("warm", int, 2),
        concurrent=section.take("concurrent", int, 8),
        idle_s=section.take("idle_s", float, 300.0),
    )
    if not (0 <= size.warm <= 64 and 1 <= size.concurrent <= 512 and size.idle_s > 0):
        raise ConfigurationError(
            f"{section.place}: warm is 0 to 64, concurrent 1 to 512, idle_s more than 0"
        )
    return size


class Pool:
    """Hands out proven sandboxes. Every one that was taken is ended."""

    def __init__(self, name: str, rules: Rules, size: Size) -> None:
        self._name = name
        self._rules = rules
        self._size = size
        self._lock = threading.Lock()
        self._spares: OrderedDict[str, deque[Sandbox]] = OrderedDict()
        self._starting: dict[str, int] = {}
        self._isolation: Isolation | None = None
        self._closed = False
        self._prune_due_s = 0.0
        self._turns = asyncio.Semaphore(size.concurrent)
        # bwrap ends a sandbox when the thread that started it ends: these last as long as the
        # pool. They start with the first work.
        self._threads = concurrent.futures.ThreadPoolExecutor(STARTERS, f"bend-{name}-start")
        self._waiters = concurrent.futures.ThreadPoolExecutor(size.concurrent, f"bend-{name}-wait")

    @property
    def isolation(self) -> str:
        """The way in use; "" before the first sandbox."""
        return self._isolation.name if self._isolation else ""

    def announce(self) -> None:
        """Find out in a thread which way works, and say so in the log. Returns at once."""
        self._threads.submit(self._tell)

    def _tell(self) -> None:
        try:
            made = self._start()
        except Busy as error:
            log.warning("%s: no sandbox yet, tasks try again: %s", self._name, error)
        except Unavailable as error:
            log.error("%s: no sandbox, every task will be refused: %s", self._name, error)  # noqa: TRY400
        else:
            made.end()

    def _start(self) -> Sandbox:
        """Start a sandbox. Blocks; raises Unavailable, Busy."""
        with self._lock:
            known = self._isolation
        if known is not None:
            try:
                return started(known, self._rules)
            except Busy:
                raise
            except Unavailable as error:
                # What worked is gone, a program's update for example: look again.
                log.warning("%s: %s; looking for another way", self._name, error)
                with self._lock:
                    self._isolation = None
        made = detect(self._rules)
        with self._lock:
            first, self._isolation = self._isolation is None, made.isolation
        if first:
            level = logging.INFO if made.isolation.real else logging.WARNING
            log.log(level, "%s: sandbox by %s (%s)", self._name, self.isolation, self.promise)
        return made

    @property
    def promise(self) -> str:
        """What the way in use promises, for people."""
        return self._isolation.promise if self._isolation else ""

    @asynccontextmanager
    async def taken(self, namespace: str) -> AsyncIterator[Sandbox]:
        """Give a sandbox for one task, and end it with all that runs in it afterwards.

        Raises TerminalError SANDBOX_UNAVAILABLE, RetryableError SANDBOX_BUSY.
        """
        loop = asyncio.get_running_loop()
        async with self._turns:
            made = self._spare(namespace)
            if made is None:
                made = await self._started_now(loop)
            self._refill(namespace)
            watching = asyncio.ensure_future(watch(made, self._rules))
            try:
                yield made
            finally:
                watching.cancel()
                made.kill()
                self._waiters.submit(made.end)
                self._prune_later(loop)

    async def _started_now(self, loop: asyncio.AbstractEventLoop) -> Sandbox:
        future = self._threads.submit(self._start)
        try:
            return await asyncio.wrap_future(future, loop=loop)
        except asyncio.CancelledError:
            if not future.cancel():
                future.add_done_callback(_end_unwanted)
            raise
        except Busy as error:
            raise RetryableError(
                "SANDBOX_BUSY", f"no sandbox could be started now: {error}"
            ) from None
        except Unavailable as error:
            raise TerminalError(
                "SANDBOX_UNAVAILABLE",
                f"this machine offers no isolation: {error}",
                details={"wanted": self._rules.isolation},
            ) from None

    def _spare(self, namespace: str) -> Sandbox | None:
        while True:
            with self._lock:
                spares = self._spares.get(namespace)
                if not spares:
                    return None
                self._spares.move_to_end(namespace)
                made = spares.popleft()
            if made.alive:
                return made
            self._waiters.submit(made.end)

    def _refill(self, namespace: str) -> None:
        with self._lock:
            have = len(self._spares.get(namespace, ())) + self._starting.get(namespace, 0)
            wanted = max(0, self._size.warm - have)
            self._starting[namespace] = self._starting.get(namespace, 0) + wanted
        for _ in range(wanted):
            self._threads.submit(self._add, namespace)

    def _add(self, namespace: str) -> None:
        """Start a spare; runs in a thread."""
        made: Sandbox | None = None
        try:
            made = self._start()
        except Unavailable as error:
            log.warning("%s: no spare sandbox: %s", self._name, error)
        unwanted: list[Sandbox] = []
        with self._lock:
            self._starting[namespace] -= 1
            if not self._starting[namespace]:
                del self._starting[namespace]
            if made is not None and self._closed:
                unwanted.append(made)
            elif made is not None:
                self._spares.setdefault(namespace, deque()).append(made)
                while len(self._spares) > NAMESPACES_MAX:
                    unwanted += self._spares.popitem(last=False)[1]
        for one in unwanted:
            one.end()

    def _prune_later(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look at the spares once when the newest of them may be too old; one timer at a time."""
        now = time.monotonic()
        if now >= self._prune_due_s:
            self._prune_due_s = now + self._size.idle_s
            loop.call_later(self._size.idle_s + 1, self._prune)

    def _prune(self) -> None:
        """End the spares that waited too long."""
        oldest = time.monotonic() - self._size.idle_s
        old: list[Sandbox] = []
        with self._lock:
            for namespace, spares in list(self._spares.items()):
                while spares and spares[0].made_s <= oldest:
                    old.append(spares.popleft())
                if not spares:
                    del self._spares[namespace]
        for made in old:
            self._waiters.submit(made.end)

    async def exit_code(self, made: Sandbox) -> int:
        """Wait until a sandbox ended, and return its code."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._waiters, made.exit_code)

    def close(self) -> None:
        """End all spares and the threads. Blocks; tasks that run keep their sandboxes."""
        with self._lock:
            self._closed = True
            spares = [made for group in self._spares.values() for made in group]
            self._spares.clear()
        for made in spares:
            made.end()
        self._threads.shutdown(wait=True)
        self._waiters.shutdown(wait=True)


def _end_unwanted(future: "concurrent.futures.Future[Sandbox]") -> None:
    """End a sandbox whose task was cancelled while it started."""
    if not future.cancelled() and future.exception() is None:
        future.result().end()
