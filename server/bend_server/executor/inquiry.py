"""Asking the engines which tries are still open, before something is run a second time."""

import asyncio

import structlog
from google.protobuf.message import DecodeError

from bend.internal.v1 import control_pb2
from bend_server.executor.holdings import Key, task_key
from bend_server.executor.options import ASK_KEYS_MAX, ASK_S, SLOTS_MAX
from bend_server.ports.queue import Queue, QueueDown

INQUIRY_S = 6.0
AGAIN_MIN_S = 0.2
AGAIN_MAX_S = 1.0
_State = control_pb2.OpenKeysResponse

_log = structlog.get_logger(__name__)


async def closed_keys(
    queue: Queue, slot: int, keys: list[Key], *, patient: bool = False
) -> frozenset[Key]:
    """Return those of the keys that an engine says are closed; unknown ones count as open.

    Asks the engine of the frame's slot first, the others for what that one does not own.
    Takes at most 6 s, whatever the engines do.

    Args:
        queue: reaches the engines.
        slot: the frame's.
        keys: of tries that might run.
        patient: ask again while no engine knows a key: one that starts may have its result already.
    """
    closed: list[Key] = []
    pause = AGAIN_MIN_S
    try:
        async with asyncio.timeout(INQUIRY_S):
            while True:
                unknown: list[Key] = []
                for start in range(0, len(keys), ASK_KEYS_MAX):
                    unknown += await _round(queue, slot, keys[start : start + ASK_KEYS_MAX], closed)
                if not unknown or not patient:
                    break
                await asyncio.sleep(pause)
                keys, pause = unknown, min(pause * 2, AGAIN_MAX_S)
    except TimeoutError:
        # Running a try twice is allowed, waiting for ever is not.
        _log.warning("open_keys_unanswered", slot=slot)
    return frozenset(closed)


async def _round(queue: Queue, slot: int, keys: list[Key], closed: list[Key]) -> list[Key]:
    """Ask every engine once; add closed keys to `closed` and return those that nobody owns."""
    for asked in (slot, *(other for other in range(SLOTS_MAX) if other != slot)):
        keys = await _ask(queue, asked, keys, closed)
        if not keys:
            break
    return keys


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
