"""Metadata that a workflow sends: text only, and none of the protocol's own names."""

import re

from bend import TerminalError

KEY = re.compile(r"[a-z0-9_.-]{1,128}")
VALUE = re.compile(r"[\x20-\x7e]{0,4096}")
BYTES_MAX = 8 * 1024
RESERVED = frozenset(
    [
        "host",
        "te",
        "content-type",
        "content-length",
        "transfer-encoding",
        "connection",
        "user-agent",
        "keep-alive",
        "upgrade",
        "proxy-authorization",
    ]
)


def checked(given: dict[str, str] | None) -> list[tuple[str, str]]:
    """Return metadata as gRPC sends it.

    Raises TerminalError INVALID_INPUT naming the key; values are never shown. Keys of the protocol
    (`grpc-…`, `host`, …) and binary ones (`…-bin`) are refused: the one would change the call, the
    other carries whole messages that a server's libraries trust.
    """
    found: list[tuple[str, str]] = []
    size = 0
    for name, value in (given or {}).items():
        key = name.lower()
        if not KEY.fullmatch(key):
            raise refused(name, "letters, digits, _ . - only")
        if key in RESERVED or key.startswith("grpc-"):
            raise refused(name, "the protocol sets it itself")
        if key.endswith("-bin"):
            raise refused(name, "binary metadata is not sent")
        if not VALUE.fullmatch(value) or value != value.strip():
            raise refused(name, "printable ASCII without spaces around it, at most 4096, is wanted")
        size += len(key) + len(value) + 32
        found.append((key, value))
    if size > BYTES_MAX:
        raise TerminalError("INVALID_INPUT", f"metadata: more than {BYTES_MAX} bytes")
    return found


def refused(name: str, why: str) -> TerminalError:
    """Return the error of a key that is not sent."""
    field = f"metadata.{name[:100]!r}"
    return TerminalError("INVALID_INPUT", f"{field}: {why}", details={"field": field})
