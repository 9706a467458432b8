"""A bounded pool of threads for plain functions, without a future per call."""

import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

W = TypeVar("W")


class Pool(Generic[W]):
    """Runs a function over submitted work in at most `size` daemon threads, started on demand.

    Daemon threads: a function that never returns must not keep a drained worker alive.
    """

    def __init__(self, size: int, run: Callable[[W], None]) -> None:
        self._size = size
        self._run = run
        self._work: queue.SimpleQueue[W | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._idle = 0

    def submit(self, work: W) -> None:
        """Run `work` as soon as a thread is free. Any thread; returns at once."""
        self._work.put(work)
        with self._lock:
            if self._idle >= self._work.qsize() or self._threads >= self._size:
                return
            self._threads += 1
        threading.Thread(
            target=self._loop, name=f"bend-component-{self._threads}", daemon=True
        ).start()

    def close(self) -> None:
        """End each thread when it has nothing left to do."""
        with self._lock:
            count, self._size = self._threads, 0
        for _ in range(count):
            self._work.put(None)

    def _loop(self) -> None:
        while True:
            with self._lock:
                self._idle += 1
            work = self._work.get()
            with self._lock:
                self._idle -= 1
            if work is None:
                return
            self._run(work)
