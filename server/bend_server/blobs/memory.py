"""The blob store's in-memory twin, for simulations and tests."""

import hashlib

from bend_server.blobs.sizes import check_size
from bend_server.core.errors import NotFound


class MemoryBlobs:
    """Blobs in a dict; implements ports.blobs.Blobs."""

    def __init__(self) -> None:
        self.stored: dict[str, bytes] = {}

    async def put(self, prefix: str, data: bytes) -> str:
        """See ports.blobs.Blobs."""
        check_size(data)
        key = f"{prefix.rstrip('/')}/{hashlib.sha256(data).hexdigest()}"
        self.stored[key] = bytes(data)
        return key

    async def get(self, key: str) -> bytes:
        """See ports.blobs.Blobs."""
        try:
            return self.stored[key]
        except KeyError:
            raise NotFound(f"no blob {key!r}", key=key) from None

    async def delete_prefix(self, prefix: str) -> int:
        """See ports.blobs.Blobs."""
        keys = [key for key in self.stored if key.startswith(f"{prefix.rstrip('/')}/")]
        for key in keys:
            del self.stored[key]
        return len(keys)
