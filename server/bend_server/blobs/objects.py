"""Large payloads in an object store: a local folder, S3, GCS or Azure, by URL (obstore)."""

import asyncio
import hashlib
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.exceptions import NotFoundError as Missing
from obstore.store import LocalStore, from_url

from bend_server.core.errors import CorruptHistory, DependencyDown, InvalidInput, NotFound

CALL_S = 30.0
DELETE_S = 300.0
DELETE_BATCH = 1000


class ObjectBlobs:
    """A blob store; implements ports.blobs.Blobs. Every call has a deadline.

    Args:
        url: `file:///folder`, `s3://bucket/path`, `gs://…`, `az://…`; credentials come from the
            environment as each provider defines it.

    Raises:
        InvalidInput: no store can be made of the URL.
    """

    def __init__(self, url: str) -> None:
        try:
            self._store: Any = _open(url)
        except (BaseError, ValueError, OSError) as error:
            raise InvalidInput("the blob store's URL cannot be used", url=url) from error

    async def put(self, prefix: str, data: bytes) -> str:
        """See ports.blobs.Blobs."""
        key = f"{prefix}/{hashlib.sha256(data).hexdigest()}"
        try:
            async with asyncio.timeout(CALL_S):
                await obstore.put_async(self._store, key, data)
        except (BaseError, OSError, TimeoutError) as error:
            raise _down(error) from error
        return key

    async def get(self, key: str) -> bytes:
        """See ports.blobs.Blobs; content that is not what was stored is CorruptHistory."""
        try:
            async with asyncio.timeout(CALL_S):
                found = await obstore.get_async(self._store, key)
                data = bytes(await found.bytes_async())
        except (Missing, FileNotFoundError) as error:
            raise NotFound(f"no blob {key!r}", key=key) from error
        except (BaseError, OSError, TimeoutError) as error:
            raise _down(error) from error
        if hashlib.sha256(data).hexdigest() != key.rpartition("/")[2]:
            raise CorruptHistory(f"blob {key!r} is not what was stored", key=key)
        return data

    async def delete_prefix(self, prefix: str) -> int:
        """See ports.blobs.Blobs."""
        deleted = 0
        try:
            async with asyncio.timeout(DELETE_S):
                async for batch in obstore.list(self._store, prefix, chunk_size=DELETE_BATCH):
                    paths = [entry["path"] for entry in batch]
                    await obstore.delete_async(self._store, paths)
                    deleted += len(paths)
        except (Missing, FileNotFoundError):
            # Somebody else deletes the same prefix.
            return deleted
        except (BaseError, OSError, TimeoutError) as error:
            raise _down(error) from error
        return deleted


def _open(url: str) -> Any:
    parts = urlsplit(url)
    if parts.scheme == "file":
        folder = Path(unquote(parts.path))
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return LocalStore(folder)
    return from_url(url)


def _down(error: BaseException) -> DependencyDown:
    return DependencyDown(f"the blob store cannot be reached: {type(error).__name__}")
