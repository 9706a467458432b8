"""The blob store on a real folder and on the twin: the same contract."""

import hashlib
import os
from pathlib import Path

import pytest

from bend_server.blobs.memory import MemoryBlobs
from bend_server.blobs.objects import ObjectBlobs
from bend_server.core.errors import (
    CorruptHistory,
    DomainError,
    InvalidInput,
    LimitExceeded,
    NotFound,
)
from bend_server.core.limits import BLOB_BYTES_MAX
from bend_server.ports.blobs import Blobs
from tests.kit.loops import in_loop


def store(kind: str, folder: Path) -> Blobs:
    """Return an empty store."""
    return MemoryBlobs() if kind == "memory" else ObjectBlobs(folder.as_uri())


@pytest.mark.parametrize("kind", ["memory", "folder"])
@in_loop
async def test_what_is_put_is_got(kind: str, tmp_path: Path) -> None:
    blobs = store(kind, tmp_path / "with space")
    data = bytes(range(256)) * 5000
    key = await blobs.put("default/7", data)
    assert key == f"default/7/{hashlib.sha256(data).hexdigest()}"
    assert await blobs.put("default/7", data) == key
    assert await blobs.get(key) == data


@pytest.mark.parametrize("kind", ["memory", "folder"])
@in_loop
async def test_missing_is_not_found(kind: str, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        await store(kind, tmp_path).get("default/7/" + "0" * 64)


@pytest.mark.parametrize("kind", ["memory", "folder"])
@in_loop
async def test_a_prefix_is_deleted_and_nothing_beside_it(kind: str, tmp_path: Path) -> None:
    """Execution 1 goes, 12 stays: a prefix is a folder, not the beginning of a text."""
    blobs = store(kind, tmp_path)
    gone = [await blobs.put("default/1", b"%d" % number) for number in range(5)]
    kept = await blobs.put("default/12", b"kept")
    assert await blobs.delete_prefix("default/1/") == 5
    assert await blobs.delete_prefix("default/1") == 0
    assert await blobs.get(kept) == b"kept"
    with pytest.raises(NotFound):
        await blobs.get(gone[0])


@pytest.mark.parametrize("kind", ["memory", "folder"])
@in_loop
async def test_a_blob_over_the_limit_is_refused(kind: str, tmp_path: Path) -> None:
    with pytest.raises(LimitExceeded):
        await store(kind, tmp_path).put("default/1", bytes(BLOB_BYTES_MAX + 1))


@in_loop
async def test_a_deleted_prefix_leaves_no_folder(tmp_path: Path) -> None:
    """A million finished executions would leave a million empty folders."""
    blobs = ObjectBlobs(tmp_path.as_uri())
    await blobs.put("default/1", b"x")
    await blobs.delete_prefix("default/1")
    assert os.listdir(tmp_path) == []


@in_loop
async def test_no_way_out_of_the_folder(tmp_path: Path) -> None:
    blobs = ObjectBlobs((tmp_path / "blobs").as_uri())
    with pytest.raises(DomainError):
        await blobs.put("../outside", b"x")
    with pytest.raises(DomainError):
        await blobs.get("../outside/" + "0" * 64)
    assert os.listdir(tmp_path) == ["blobs"]


@in_loop
async def test_damage_is_noticed(tmp_path: Path) -> None:
    blobs = ObjectBlobs(tmp_path.as_uri())
    key = await blobs.put("default/1", b"right")
    (tmp_path / key).write_bytes(b"wrong")
    with pytest.raises(CorruptHistory):
        await blobs.get(key)


@in_loop
async def test_a_store_that_cannot_be_written_is_a_domain_error(tmp_path: Path) -> None:
    (tmp_path / "default").write_text("a file where a folder is needed")
    with pytest.raises(DomainError):
        await ObjectBlobs(tmp_path.as_uri()).put("default/1", b"x")


def test_unknown_scheme_is_refused() -> None:
    with pytest.raises(InvalidInput):
        ObjectBlobs("gopher://hole")
