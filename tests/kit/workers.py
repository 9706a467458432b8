"""A worker that runs in a thread with a loop of its own, as a component author's process does."""

import asyncio
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bend.worker import Worker

JOIN_S = 40.0


def certified(home: Path, component: str) -> dict[str, str]:
    """Return the options of a worker that serves the mesh in `home` with a component's certificate.

    `bend components cert` has made it.
    """
    return {
        "home": str(home),
        "cert_file": str(home / "certs" / f"component-{component}.pem"),
        "key_file": str(home / "certs" / f"component-{component}.key"),
    }


class RunningWorker:
    """`with RunningWorker(worker):` serves until the block ends, then drains."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.error: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - handed to the test
            self.error = error
        finally:
            self._started.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        serving = asyncio.ensure_future(self.worker.serve())
        self._loop.call_soon(self._started.set)
        await serving

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait(JOIN_S)
        return self

    def call(self, function: Any, *arguments: Any) -> None:
        """Run something on the worker's loop."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(function, *arguments)

    def stop(self) -> None:
        """Ask for a drain."""
        if self._thread.is_alive():
            self.call(self.worker.stop)

    def join(self) -> None:
        """Wait until `serve` has returned; raise what it raised."""
        self._thread.join(JOIN_S)
        assert not self._thread.is_alive(), "the worker does not end"
        if self.error is not None:
            raise self.error

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.stop()
        if kind is None:
            self.join()
