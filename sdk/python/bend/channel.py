"""One grpc.aio channel with deadlines and retries: how every call of the client is made.

Retrying belongs here, to the outermost caller, and only to calls that may be repeated.
"""

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

from bend.errors import BendError
from bend.settings import Settings
from bend.status import error_of
from bend.stream import channel_options, credentials

CALL_S = 30.0
RETRY_S = 30.0
BACKOFF_S_FIRST = 0.1
BACKOFF_S_MAX = 5.0
RETRIED_REASONS = frozenset({"CONNECTION_LOST", "DEPENDENCY_DOWN", "OVERLOADED", "OWNERSHIP_MOVED"})


def retried(failed: grpc.aio.AioRpcError, error: BendError) -> bool:
    """Whether a call that may be repeated should be."""
    return failed.code() is grpc.StatusCode.UNAVAILABLE or error.reason in RETRIED_REASONS


def pause_s(attempt: int) -> float:
    """Return the wait before repeat `attempt` (from 1), seconds: exponential, full jitter."""
    return random.uniform(0, min(BACKOFF_S_MAX, BACKOFF_S_FIRST * 2**attempt))  # noqa: S311


class Channel:
    """Calls with a deadline each; `retry_s` bounds how long one call is repeated, seconds."""

    def __init__(self, settings: Settings, *, retry_s: float = RETRY_S) -> None:
        self.settings = settings
        self.retry_s = retry_s
        self._channel: grpc.aio.Channel | None = None
        self._stubs: dict[Any, Any] = {}

    def stub(self, factory: Callable[[grpc.aio.Channel], Any]) -> Any:
        """Return the stub of a service; the channel is made with the first one, in its loop."""
        if self._channel is None:
            options = [
                *channel_options(self.settings),
                ("grpc.initial_reconnect_backoff_ms", 100),
                ("grpc.min_reconnect_backoff_ms", 100),
                ("grpc.max_reconnect_backoff_ms", 2000),
            ]
            if self.settings.secure:
                self._channel = grpc.aio.secure_channel(
                    self.settings.target, credentials(self.settings), options
                )
            else:
                self._channel = grpc.aio.insecure_channel(self.settings.target, options)
        found = self._stubs.get(factory)
        if found is None:
            found = self._stubs[factory] = factory(self._channel)
        return found

    async def call(
        self,
        method: Any,
        request: Any,
        *,
        timeout: float = CALL_S,
        idempotent: bool = True,
    ) -> Any:
        """Make a unary call; repeat it with jitter while the service is away and it may be.

        Args:
            method: of a stub.
            request: its message.
            timeout: seconds for one try.
            idempotent: whether it may be repeated.

        Raises BendError.
        """
        give_up = time.monotonic() + self.retry_s
        attempt = 0
        while True:
            try:
                return await method(request, timeout=timeout, metadata=self.settings.metadata())
            except grpc.aio.AioRpcError as failed:
                error = error_of(failed, self.settings.url)
                attempt += 1
                wait = pause_s(attempt)
                if (
                    not idempotent
                    or not retried(failed, error)
                    or time.monotonic() + wait > give_up
                ):
                    raise error from failed
            await asyncio.sleep(wait)

    async def close(self) -> None:
        """Close the connection; calls that run are cancelled."""
        channel, self._channel = self._channel, None
        self._stubs.clear()
        if channel is not None:
            await channel.close(None)
