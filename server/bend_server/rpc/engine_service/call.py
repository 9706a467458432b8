"""What a call says about itself beyond its message: who, REST or gRPC, trace, waiting time."""

from typing import Any, NamedTuple

from google.protobuf.duration_pb2 import Duration

from bend_server.core.errors import InvalidInput
from bend_server.rpc import identity

WAIT_DEFAULT_S = 60.0
WAIT_MAX_S = 3600.0
ANSWER_S = 0.2
SAMPLED = 1


class Call(NamedTuple):
    """One call: its peer, and the W3C trace context when the caller samples it (else "")."""

    peer: identity.Peer
    trace: str

    @property
    def namespace(self) -> str:
        """The namespace that the caller's identity belongs to."""
        return self.peer.namespace

    @property
    def rest(self) -> bool:
        """Whether the answer is shown by REST."""
        return self.peer.rest


def call_of(context: Any) -> Call:
    """Return what the call being served says about itself."""
    return Call(identity.peer(context), _sampled(header(context, "traceparent")))


def header(context: Any, name: str) -> str:
    """Return one metadata text of the call; empty when it has none."""
    for key, value in context.invocation_metadata() or ():
        if key == name and isinstance(value, str):
            return value
    return ""


def _sampled(traceparent: str) -> str:
    parts = traceparent.split("-")
    try:
        return traceparent if len(parts) >= 4 and int(parts[3][:2], 16) & SAMPLED else ""
    except ValueError:
        return ""


def wait_seconds(wanted: Duration, context: Any) -> float:
    """Return how long to wait: 60 s unless the caller says, inside the call's own deadline.

    Raises:
        InvalidInput: negative, or over 1 h.
    """
    seconds = wanted.seconds + wanted.nanos / 1e9 or WAIT_DEFAULT_S
    if not 0 < seconds <= WAIT_MAX_S:
        raise InvalidInput(
            f"wait_timeout is {seconds:g} s, at most {WAIT_MAX_S:g} s are possible",
            field="wait_timeout",
            limit_s=int(WAIT_MAX_S),
        )
    left = context.time_remaining()
    return seconds if left is None else max(0.0, min(seconds, left - ANSWER_S))
