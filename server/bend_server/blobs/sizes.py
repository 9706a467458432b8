"""How large a blob may be."""

from bend_server.core.errors import LimitExceeded
from bend_server.core.limits import BLOB_BYTES_MAX


def check_size(data: bytes) -> None:
    """Raise LimitExceeded for data over the limit."""
    if len(data) > BLOB_BYTES_MAX:
        raise LimitExceeded(
            f"a payload of {len(data)} bytes is over the limit of {BLOB_BYTES_MAX} bytes",
            limit="BLOB_BYTES_MAX",
            size=len(data),
            allowed=BLOB_BYTES_MAX,
        )
