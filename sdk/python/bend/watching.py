"""Server streams that outlive their connections: broken ones are opened again after a cursor."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio

from bend.channel import Channel, pause_s, retried
from bend.errors import Unreachable
from bend.status import error_of

# The server sends a keepalive every 15 s: longer silence is a dead stream.
SILENT_S = 45.0


async def resumed(
    channel: Channel,
    open_stream: Callable[[str], Any],
    cursor: str,
    *,
    silent_s: float | None = SILENT_S,
) -> AsyncIterator[Any]:
    """Yield the answers of a stream; open it again after the last cursor when it breaks.

    Args:
        channel: gives the retry bound, which counts from the last answer.
        open_stream: makes the call, given the cursor to resume after.
        cursor: the first one.
        silent_s: seconds without an answer after which the stream counts as broken; None: never.

    Ends when the server ends the stream. Raises BendError.
    """
    attempt = 0
    heard = time.monotonic()
    while True:
        call = open_stream(cursor)
        try:
            while True:
                async with asyncio.timeout(silent_s):
                    answer = await call.read()
                if answer is grpc.aio.EOF:
                    # read() ends alike for a good end and a broken stream: the code tells.
                    await raise_for_code(call)
                    return
                attempt, heard = 0, time.monotonic()
                event = getattr(answer, "event", None)
                if event is not None and event.cursor:
                    cursor = event.cursor
                yield answer
        except grpc.aio.AioRpcError as failed:
            error = error_of(failed, channel.settings.url)
            if not retried(failed, error):
                raise error from failed
        except TimeoutError:
            error = Unreachable(f"{channel.settings.url}: nothing was heard for {silent_s} s")
        finally:
            call.cancel()
        attempt += 1
        wait = pause_s(attempt)
        if time.monotonic() + wait > heard + max(channel.retry_s, silent_s or 0):
            raise error
        await asyncio.sleep(wait)


async def raise_for_code(call: Any) -> None:
    """Raise the call's error when it did not end with OK."""
    if await call.code() is not grpc.StatusCode.OK:
        raise grpc.aio.AioRpcError(
            await call.code(),
            await call.initial_metadata(),
            await call.trailing_metadata(),
            await call.details(),
        )
