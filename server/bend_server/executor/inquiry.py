"""Asking the engines which tries are still open, before something is run a second time."""

import asyncio

import structlog
from google.protobuf.message import DecodeError

from bend.internal.v1 import control_pb2
from bend_server.executor.holdings import Key, task_key
from bend_server.executor.options import ASK_KEYS_MAX, ASK_S, SLOTS_MAX
from bend_server.ports.queue import Queue, QueueDown

INQUIRY_S = 6.0
AGAIN_S = 0.2
_State = control_pb2.OpenKeysResponse

_log = structlog.get_logger(__name__)


async def closed_keys(
    queue: Queue, slot: int, keys: list[Key], turns: asyncio.Lock | None = None
) -> frozenset[Key]:
    """Return those of the keys that an engine says are closed; unknown ones count as open.

    Asks the engine of the frame's slot first, the others for what that one does not own.
    Takes at most 6 s, whatever the engines do.

    Args:
        queue: reaches the engines.
        slot: the frame's.
        keys: of tries that might run.
        turns: shared by all who ask. With it, while no engine knows a key, one of them asks again
            and the others wait: an engine that starts may have the results already. None: the
            first answers count.
    """
    closed: list[Key] = []
    try:
        async with asyncio.timeout(INQUIRY_S):
            unknown = await _round(queue, slot, keys, closed)
            if unknown and turns is not None:
                async with turns:
                    while unknown := await _round(queue, slot, unknown, closed):  # noqa: ASYNC110
                        await asyncio.sleep(AGAIN_S)
    except TimeoutError:
        # Running a try twice is allowed, waiting for ever is not.
        _log.warning("open_keys_unanswered", slot=slot)
    return frozenset(closed)


async def _round(queue: Queue, slot: int, keys: list[Key], closed: list[Key]) -> list[Key]:
    """Ask every engine once; add closed keys to `closed` and return those that nobody owns."""
    unknown: list[Key] = []
    for start in range(0, len(keys), ASK_KEYS_MAX):
        left = keys[start : start + ASK_KEYS_MAX]
        for asked in (slot, *(other for other in range(SLOTS_MAX) if other != slot)):
            left = await _ask(queue, asked, left, closed)
            if not left:
                break
        unknown += left
    return unknown


async def _ask(queue: Queue, slot: int, keys: list[Key], closed: list[Key]) -> list[Key]:
    """Ask one engine; add closed keys to `closed` and return those it does not own."""
    request = control_pb2.OpenKeysRequest(keys=[task_key(key) for key in keys])
    try:
        data = await queue.request(f"engine.open.{slot}", request.SerializeToString(), ASK_S)
        states = control_pb2.OpenKeysResponse.FromString(data).states
    except QueueDown:
        return keys
    except DecodeError:
        _log.warning("open_keys_answer_malformed", slot=slot)
        return keys
    if len(states) != len(keys):
        _log.warning("open_keys_answer_malformed", slot=slot)
        return keys
    closed += [key for key, state in zip(keys, states, strict=True) if state == _State.CLOSED]
    known = (_State.OPEN, _State.CLOSED)
    return [key for key, state in zip(keys, states, strict=True) if state not in known]
