"""Large payloads in an object store: a local folder, S3, GCS or Azure, by URL (obstore)."""

import asyncio
import hashlib
import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.exceptions import NotFoundError as Missing
from obstore.store import LocalStore, from_url

from bend_server.blobs.sizes import check_size
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
            self._folder = _folder(url)
            self._store: Any = _open(url, self._folder)
        except (BaseError, ValueError, OSError) as error:
            raise InvalidInput("the blob store's URL cannot be used", url=url) from error

    async def put(self, prefix: str, data: bytes) -> str:
        """See ports.blobs.Blobs."""
        check_size(data)
        key = f"{prefix.rstrip('/')}/{hashlib.sha256(data).hexdigest()}"
        try:
            async with asyncio.timeout(CALL_S):
                await obstore.put_async(self._store, key, data)
                if self._folder is not None:
                    await asyncio.to_thread(_sync, self._folder, self._folder / key)
        except ValueError as error:
            raise InvalidInput(f"{prefix!r} is no place for a blob", prefix=prefix) from error
        except (BaseError, OSError, TimeoutError) as error:
            raise _down(error) from error
        return key

    async def get(self, key: str) -> bytes:
        """See ports.blobs.Blobs; content that is not what was stored is CorruptHistory."""
        try:
            async with asyncio.timeout(CALL_S):
                found = await obstore.get_async(self._store, key)
                data = bytes(await found.bytes_async())
        except (Missing, FileNotFoundError, ValueError) as error:
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


def _folder(url: str) -> Path | None:
    parts = urlsplit(url)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def _open(url: str, folder: Path | None) -> Any:
    if folder is None:
        return from_url(url)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return LocalStore(folder, automatic_cleanup=True)


def _sync(folder: Path, path: Path) -> None:
    """Bring a new file to the disk, and its folders' entries: SQL will soon point to it.

    The library writes beside and renames, which is atomic, but would not survive a power loss.
    """
    for place in (path, *path.parents):
        file = os.open(place, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)
        if place == folder:
            return


def _down(error: BaseException) -> DependencyDown:
    return DependencyDown(f"the blob store cannot be reached: {type(error).__name__}")
