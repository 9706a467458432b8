"""Warnings about what others do wrong: said seldom, however often they do it."""

import asyncio

import structlog

WARN_EVERY_S = 10.0

_log = structlog.get_logger(__name__)


class Warnings:
    """Logs an event at most once in 10 s."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._warned: dict[str, float] = {}

    def warn(self, event: str, **facts: object) -> None:
        """Log what somebody else did wrong."""
        now = self._loop.time()
        if self._warned.get(event, 0.0) <= now:
            self._warned[event] = now + WARN_EVERY_S
            _log.warning(event, **facts)
