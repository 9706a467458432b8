"""The client without `await`: a thin runner over the async one, usable inside a running loop too.

All calls run on one background loop per process. The methods are made from the async client's, so
there is no second implementation.
"""

import asyncio
import functools
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import Any, Self

from bend.client import Client as AsyncClient

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def background_loop() -> asyncio.AbstractEventLoop:
    """Return the process's background loop; its thread starts with the first call."""
    global _loop  # noqa: PLW0603 - one loop per process is the point
    with _lock:
        if _loop is None:
            loop = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="bend-sync", daemon=True).start()
            _loop = loop
        return _loop


def wait_for(awaitable: Any) -> Any:
    """Run an awaitable on the background loop and return its value; Ctrl-C cancels it."""
    future = asyncio.run_coroutine_threadsafe(awaitable, background_loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


class Client:
    """`bend.Client` without `await`. Use it as `with Client() as client:`, or call `close`."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._client = AsyncClient(*arguments, **options)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        wait_for(self._client.close())


def iterate(source: AsyncIterator[Any]) -> Iterator[Any]:
    """Iterate an async iterator from a thread; closing the one closes the other."""

    async def following() -> Any:
        return await anext(source, END)

    async def closing() -> None:
        await source.aclose()  # type: ignore[attr-defined]

    try:
        while (value := wait_for(following())) is not END:
            yield value
    finally:
        wait_for(closing())


END = object()


def blocking(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return the blocking form of one of the async client's methods."""
    if inspect.isasyncgenfunction(method):

        @functools.wraps(method)
        def stream(self: Client, *arguments: Any, **options: Any) -> Iterator[Any]:
            return iterate(method(self._client, *arguments, **options))

        return stream

    @functools.wraps(method)
    def call(self: Client, *arguments: Any, **options: Any) -> Any:
        return wait_for(method(self._client, *arguments, **options))

    return call


for _name, _method in inspect.getmembers(AsyncClient, inspect.isfunction):
    if not _name.startswith("_"):
        setattr(Client, _name, blocking(_method))
