"""Opaque page tokens, bound to the list and the filter that made them."""

import base64
import hashlib

import orjson

from bend_server.core import limits
from bend_server.core.errors import InvalidInput

_DIGEST_BYTES = 9


def page_size(wanted: int) -> int:
    """Return how many results a page holds: 0 means 100, more than 1,000 is taken as 1,000."""
    return min(wanted, limits.PAGE_MAX) if wanted > 0 else limits.PAGE_DEFAULT


def make_token(scope: tuple[object, ...], position: list[int] | list[str]) -> str:
    """Return the token of the page after `position`.

    Args:
        scope: what the list was asked for: its name, the namespace, every filter.
        position: the sort key of the last result shown.
    """
    return base64.urlsafe_b64encode(_digest(scope) + orjson.dumps(position)).decode().rstrip("=")


def read_token(scope: tuple[object, ...], token: str, kind: type, length: int) -> list[object]:
    """Return the position in a token that `make_token` made for the same scope.

    Args:
        kind: int or str, the type of each part of the position.
        length: how many parts a position has.

    Raises:
        InvalidInput: INVALID_PAGE_TOKEN, the token is garbled or of another list.
    """
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), b"-_", validate=True)
        position = orjson.loads(raw[_DIGEST_BYTES:])
    except ValueError:
        position = raw = None
    if (
        raw is None
        or raw[:_DIGEST_BYTES] != _digest(scope)
        or not isinstance(position, list)
        or len(position) != length
        or any(type(part) is not kind for part in position)
    ):
        raise InvalidInput(
            "the page token does not belong to this list",
            reason="INVALID_PAGE_TOKEN",
            field="page_token",
        )
    return position


def _digest(scope: tuple[object, ...]) -> bytes:
    return hashlib.sha256(orjson.dumps(scope, default=str)).digest()[:_DIGEST_BYTES]
