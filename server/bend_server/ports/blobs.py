"""Large payloads by reference. Keys are `<namespace>/<execution>/<sha256>`."""

from typing import Protocol


class Blobs(Protocol):
    """A blob store."""

    async def put(self, prefix: str, data: bytes) -> str:
        """Store data under `<prefix>/<sha256 of data>`; return the key. Idempotent."""
        ...

    async def get(self, key: str) -> bytes:
        """Return the data; the digest in the key is checked. Raises NotFound, DependencyDown."""
        ...

    async def delete_prefix(self, prefix: str) -> int:
        """Delete all under a prefix; return how many."""
        ...
