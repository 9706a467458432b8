"""If these fail, whoever mistypes a setting waits for processes that wait in vain."""

import asyncio

import pytest

from bend_server.roles.serving import StoppedEarly, together
from tests.kit.loops import in_loop


@in_loop
async def test_a_signal_ends_the_wait_for_what_never_comes() -> None:
    stop, ended = asyncio.Event(), asyncio.Event()

    async def never() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    starting = asyncio.create_task(together(stop, never()))
    await asyncio.sleep(0)
    stop.set()
    with pytest.raises(ExceptionGroup) as caught:
        await starting
    assert caught.group_contains(StoppedEarly)
    assert ended.is_set()


@in_loop
async def test_the_first_steps_give_their_results_in_order() -> None:
    async def give(value: int) -> int:
        await asyncio.sleep(0)
        return value

    assert await together(asyncio.Event(), give(1), give(2)) == [1, 2]
