"""Resume tokens: what an executor needs to go on with a task that another one handed over.

A token is JSON and an HMAC-SHA256 over it. It is bound to the instance and its namespace, and it
expires; a service cannot make one up. Of secrets it has the names only.
"""

import hashlib
import hmac
from typing import NamedTuple

import orjson

VERSION = 1
TOKEN_BYTES_MAX = 1024
_MAC_BYTES = 32


class Resumption(NamedTuple):
    """The facts of one hand-over. Times are Unix microseconds; `deadline_us` 0: none."""

    version: int
    run_id: int
    execution: int
    task: int
    item: int
    try_: int
    attempt: int
    namespace: str
    instance: str
    component: str
    component_version: str
    group: str
    slot: int
    sequence: int
    published_us: int
    ack_token: str
    started_us: int
    deadline_us: int
    heartbeat_timeout_ms: int
    expires_us: int
    task_id: str
    secrets: list[str]


def seal(key: bytes, facts: Resumption) -> bytes:
    """Return the token of a hand-over; empty when it would be over the protocol's limit."""
    body = orjson.dumps(list(facts))
    if len(body) + _MAC_BYTES > TOKEN_BYTES_MAX:
        return b""
    return body + hmac.new(key, body, hashlib.sha256).digest()


def unseal(key: bytes, token: bytes, now_us: int) -> Resumption | None:
    """Return the facts of a token; None when it is forged, expired or of another format."""
    body, mac = token[:-_MAC_BYTES], token[-_MAC_BYTES:]
    if not hmac.compare_digest(hmac.new(key, body, hashlib.sha256).digest(), mac):
        return None
    facts = orjson.loads(body)
    if not facts or facts[0] != VERSION or len(facts) != len(Resumption._fields):
        return None
    read = Resumption(*facts)
    return read if read.expires_us > now_us else None
