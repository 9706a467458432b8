"""NATS JetStream adapter of the queue port, and its in-memory twin."""

import sys

# nats-py imports aiohttp, for websockets, when it finds it: a seventh of the CPU time of a
# process's start, and websockets are not used here.
_aiohttp = sys.modules.setdefault("aiohttp", None)  # type: ignore[arg-type]
import nats.aio.transport  # noqa: E402, F401 - after the line above

if _aiohttp is None:
    del sys.modules["aiohttp"]
