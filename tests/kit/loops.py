"""Run coroutine tests, each in its own event loop with a deadline; wait for conditions."""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

TEST_S = 240.0


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Make a coroutine function a test: its own loop, at most 240 s."""

    @functools.wraps(test)
    def run(*args: object, **kwargs: object) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(TEST_S):
                await test(*args, **kwargs)

        asyncio.run(bounded())

    return run


async def eventually(
    condition: Callable[[], bool | Awaitable[bool]], within_s: float = 90.0
) -> None:
    """Return once a condition holds; fail after a deadline."""
    async with asyncio.timeout(within_s):
        while True:
            held = condition()
            if not isinstance(held, bool):
                held = await held
            if held:
                return
            await asyncio.sleep(0.005)
