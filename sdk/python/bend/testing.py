"""Test workflows and components against an engine inside the test's process.

    async with TestEngine([detect]) as engine:
        result = await engine.run(document, {"image": "a.png"})
        assert result.output == {"labels": ["cat"]}

No NATS, no gateway, no files: the engine, the registry and the executor are the real ones, what
they store is in memory. Waiting is skipped: a retry after an hour comes at once. It needs the
server: pip install 'bend[server]'.
"""

import asyncio
import contextlib
import importlib
from collections.abc import Callable, Coroutine, Iterable, Mapping
from types import TracebackType
from typing import Any, Literal, Self

from bend.documents import read_document
from bend.errors import ConfigurationError
from bend.models import Execution

INSTALL = "pip install 'bend[server]'"
Time = Literal["skip", "real"]


class SyncTestEngine:
    """`TestEngine` without `await`: `with SyncTestEngine([detect]) as engine: engine.run(…)`.

    Args:
        components: functions decorated with `@component`.
        mocks: component name → what stands in for it: a value that is the output of every task, or
            a function that gets the input as keywords; `name@2.0.0` stands for that version
            (default 1.0.0).
        secrets: name → value, for `{{secrets.NAME}}`.
        time: `skip`: time in which nothing works is skipped while a run is waited for; `real`.

    Raises ConfigurationError SERVER_MISSING when the server is not installed.
    """

    __test__ = False

    def __init__(
        self,
        components: Iterable[Callable[..., Any]] = (),
        *,
        mocks: Mapping[str, Any] | None = None,
        secrets: Mapping[str, str] | None = None,
        time: Time = "skip",
    ) -> None:
        self._mesh = _server().MeshThread(
            list(components), mocks=mocks or {}, secrets=secrets or {}, skip=time == "skip"
        )

    def __enter__(self) -> Self:
        self._mesh.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._mesh.stop()

    def run(
        self,
        document: Any,
        parameters: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
    ) -> Execution:
        """Store a workflow, run it to its end, and return the execution with its tasks.

        Args:
            document: a path, YAML or JSON text, a dict, or a `Workflow`.
            parameters: the workflow's input.
            timeout: seconds of the engine's time; the execution goes on after it.

        A failed execution is returned like any other. Raises InvalidDocument, InvalidParameters.
        """
        found: Execution = self._mesh.submit(
            _ran(self._mesh.client, document, parameters, timeout), waits=True
        ).result()
        return found

    def call(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Call a method of the client by name, for example `signal` or `decide_approval`."""
        method = getattr(self._mesh.client, name)
        return self._mesh.submit(method(*arguments, **options), waits=name == "wait").result()


class TestEngine:
    """An engine for tests; use it as `async with TestEngine([detect]) as engine:`.

    Args: as SyncTestEngine.
    """

    __test__ = False

    def __init__(
        self,
        components: Iterable[Callable[..., Any]] = (),
        *,
        mocks: Mapping[str, Any] | None = None,
        secrets: Mapping[str, str] | None = None,
        time: Time = "skip",
    ) -> None:
        self._sync = SyncTestEngine(components, mocks=mocks, secrets=secrets, time=time)

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._sync.__enter__)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self._sync.__exit__, kind, error, at)

    async def run(
        self,
        document: Any,
        parameters: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
    ) -> Execution:
        """Store a workflow, run it to its end; see SyncTestEngine.run."""
        mesh = self._sync._mesh  # noqa: SLF001 - the blocking form of this class
        work = _ran(mesh.client, document, parameters, timeout)
        found: Execution = await asyncio.wrap_future(mesh.submit(work, waits=True))
        return found

    async def call(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Call a method of the client by name; see SyncTestEngine.call."""
        mesh = self._sync._mesh  # noqa: SLF001 - the blocking form of this class
        work: Coroutine[Any, Any, Any] = getattr(mesh.client, name)(*arguments, **options)
        return await asyncio.wrap_future(mesh.submit(work, waits=name == "wait"))


async def _ran(
    client: Any, document: Any, parameters: Mapping[str, Any] | None, timeout: float | None
) -> Execution:
    await client.deploy(document)
    started = await client.start(read_document(document).name, parameters)
    with contextlib.suppress(TimeoutError):
        await client.wait(started.execution_id, timeout=timeout)
    found: Execution = await client.get(started.execution_id)
    return found


def _server() -> Any:
    """Load the server's part; the SDK itself does not need it."""
    try:
        return importlib.import_module("bend_server.testing")
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"bend.testing needs the server ({error.name} is missing): {INSTALL}",
            reason="SERVER_MISSING",
        ) from error
