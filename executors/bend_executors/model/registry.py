"""Fetches models from the operator's registry into the model folder, whole and checked."""

import asyncio
import hashlib
import os
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit
from urllib.request import url2pathname

import httpx

from bend import RetryableError, TerminalError
from bend_executors.model.folder import Found, digest_mismatch
from bend_executors.model.settings import Registry, Source

CHUNK_BYTES = 1024 * 1024
REDIRECTS_MAX = 5
CONNECT_S = 10.0
READ_S = 60.0
PART = ".part"
# What a process that was killed left behind is removed by the next fetch after this time.
STALE_S = 24 * 3600.0


class Fetcher:
    """Fetches one file at a time for each caller; many callers are kept apart by the shelf."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def fetch(self, found: Found, source: Source) -> None:
        """Make the model's file be there. Atomic: nobody sees half of it, nor a wrong one.

        Raises:
            TerminalError: MODEL_DIGEST_MISMATCH, nothing is kept; MODEL_FETCH_REFUSED for a 4xx
                answer or a file over the size limit.
            RetryableError: MODEL_FETCH_FAILED.
        """
        part = found.folder / f".{secrets.token_hex(8)}{PART}"
        try:
            await asyncio.to_thread(prepare, found.folder)
            with part.open("xb") as file:
                async with asyncio.timeout(self._registry.timeout_s):
                    digest = await self._copied(found, source, file)
                await asyncio.to_thread(flushed, file)
            if digest != source.sha256:
                raise digest_mismatch(found, source.sha256, digest)
            part.replace(found.file)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError) as error:
            text = str(error) or type(error).__name__
            raise RetryableError("MODEL_FETCH_FAILED", f"{found.label}: {text}") from None
        finally:
            part.unlink(missing_ok=True)

    async def _copied(self, found: Found, source: Source, file: BinaryIO) -> str:
        """Write the source's bytes; return their sha256."""
        digest = hashlib.sha256()
        size = 0
        parts = urlsplit(source.url)
        chunks = (
            local(Path(url2pathname(parts.path)))
            if parts.scheme == "file"
            else remote(self._registry, source.url, found)
        )
        async for chunk in chunks:
            size += len(chunk)
            if size > self._registry.bytes_max:
                raise refused(found, f"has more than {self._registry.bytes_max} bytes")
            await asyncio.to_thread(kept, file, digest, chunk)
        return digest.hexdigest()


def prepare(folder: Path) -> None:
    """Make the version's folder, without what killed fetches left."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob(f".*{PART}"):
        if path.stat().st_mtime < time.time() - STALE_S:
            path.unlink(missing_ok=True)


def kept(file: BinaryIO, digest: "hashlib._Hash", chunk: bytes) -> None:
    """Write a chunk and count it into the digest."""
    digest.update(chunk)
    file.write(chunk)


def flushed(file: BinaryIO) -> None:
    """Bring a file onto the disk, so that its name never stands for less than all of it."""
    file.flush()
    os.fsync(file.fileno())


def refused(found: Found, text: str) -> TerminalError:
    """Return the error for a source that will not change its mind."""
    return TerminalError("MODEL_FETCH_REFUSED", f"{found.label}: the source {text}")


async def local(path: Path) -> AsyncIterator[bytes]:
    """Yield a file's bytes."""
    with await asyncio.to_thread(path.open, "rb") as source:
        while chunk := await asyncio.to_thread(source.read, CHUNK_BYTES):
            yield chunk


async def remote(registry: Registry, url: str, found: Found) -> AsyncIterator[bytes]:
    """Yield an answer's bytes; the registry's headers never follow a redirect elsewhere."""
    headers: Mapping[str, str] = registry.headers
    async with (
        httpx.AsyncClient(
            # The environment is not the operator's configuration.
            trust_env=False,
            proxy=registry.proxy,
            timeout=httpx.Timeout(READ_S, connect=CONNECT_S),
            follow_redirects=not headers,
            max_redirects=REDIRECTS_MAX,
        ) as client,
        client.stream(
            "GET", url, headers={"accept-encoding": "identity"} | dict(headers)
        ) as answer,
    ):
        code = answer.status_code
        if code >= 500 or code in {408, 429}:
            raise RetryableError("MODEL_FETCH_FAILED", f"{found.label}: the source answers {code}")
        if code != 200:
            raise refused(found, f"answers {code}")
        announced = answer.headers.get("content-length", "")
        if announced.isdigit() and int(announced) > registry.bytes_max:
            raise refused(found, f"has {announced} bytes, at most {registry.bytes_max}")
        async for chunk in answer.aiter_bytes(CHUNK_BYTES):
            yield chunk
