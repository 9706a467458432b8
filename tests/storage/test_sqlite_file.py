"""The SQLite file: one owner, durable settings, readers that do not wait for the writer."""

import asyncio
import os
import sqlite3
import sys
from pathlib import Path

import pytest

from bend_server.core.errors import DependencyDown, DomainError
from bend_server.ports.store import Batch
from bend_server.storage.faults import DatabaseTaken, OpenError
from bend_server.storage.opening import open_store
from bend_server.storage.sqlite import SqliteDatabase
from tests.kit.backends import Backend, ManualClock, own_all, write
from tests.kit.loops import in_loop
from tests.kit.rows import start_row

HOLDER = """
import asyncio, sys
from bend_server.storage.opening import open_store
from tests.kit.backends import ManualClock

async def hold():
    await open_store(sys.argv[1], ManualClock())
    print("held", flush=True)
    await asyncio.Event().wait()

asyncio.run(hold())
"""


@in_loop
async def test_a_second_opening_names_the_owner(tmp_path: Path) -> None:
    backend = Backend("sqlite", tmp_path)
    async with backend.open():
        with pytest.raises(DatabaseTaken, match=str(os.getpid())):
            await open_store(backend.url, ManualClock())
    async with backend.open():
        pass


@in_loop
async def test_the_lock_dies_with_its_process(tmp_path: Path) -> None:
    """After a SIGKILL the next start must not wait for anybody, nor need a file removed."""
    backend = Backend("sqlite", tmp_path)
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDER, backend.url, stdout=asyncio.subprocess.PIPE
    )
    assert holder.stdout is not None
    assert await holder.stdout.readline() == b"held\n"
    with pytest.raises(DatabaseTaken, match=str(holder.pid)):
        await open_store(backend.url, ManualClock())
    holder.kill()
    await holder.wait()
    async with backend.open():
        pass


@in_loop
async def test_a_file_is_called_what_it_is_called(tmp_path: Path) -> None:
    """A `?` in a folder's name once cut the name there: the data lay beside the data folder."""
    folder = tmp_path / "who? me & 100% #1 %41 é"
    folder.mkdir()
    backend = Backend("sqlite", folder)
    async with backend.open():
        pass
    assert os.listdir(tmp_path) == [folder.name]
    assert "bend.db" in os.listdir(folder)


@in_loop
async def test_each_start_has_a_larger_epoch_and_may_own_all(tmp_path: Path) -> None:
    backend = Backend("sqlite", tmp_path)
    epochs = []
    for _ in range(3):
        async with backend.open() as stores:
            lease = await own_all(stores)
            epochs.append(lease.epoch)
            owners = await stores.engine.partitions()
            assert {owner.lease for owner in owners} == {lease.id}
            assert lease.slot == 0
    assert epochs == sorted(set(epochs))


@in_loop
async def test_a_commit_is_on_the_disk_before_it_is_answered(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "bend.db", ManualClock())
    try:
        pragmas = ("journal_mode", "synchronous", "wal_autocheckpoint")
        values = await database.write(
            lambda connection: [
                connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in pragmas
            ]
        )
        assert values == ["wal", 2, 4000]
    finally:
        await database.close()


@in_loop
async def test_a_stranger_holding_the_database_is_a_dependency_down(tmp_path: Path) -> None:
    """Somebody opened the file with the sqlite3 shell: the engine waits, then says so."""
    backend = Backend("sqlite", tmp_path)
    async with backend.ready() as (stores, lease):
        stranger = sqlite3.connect(tmp_path / "bend.db", isolation_level=None)
        stranger.execute("BEGIN IMMEDIATE")
        with pytest.raises(DependencyDown):
            await write(stores, lease, Batch(starts=[start_row(1)]))
        assert await stores.engine.load(start_row(1).id) is None
        stranger.execute("ROLLBACK")
        stranger.close()
        await write(stores, lease, Batch(starts=[start_row(1)]))


@in_loop
async def test_what_was_answered_survives_a_kill(tmp_path: Path) -> None:
    """A copy of the files while the database is open is what a SIGKILL leaves."""
    backend = Backend("sqlite", tmp_path)
    async with backend.ready() as (stores, lease):
        await write(stores, lease, Batch(starts=[start_row(n) for n in range(10)]))
        (tmp_path / "after").mkdir()
        for name in ("bend.db", "bend.db-wal"):
            data = await asyncio.to_thread((tmp_path / name).read_bytes)
            await asyncio.to_thread((tmp_path / "after" / name).write_bytes, data)
    async with Backend("sqlite", tmp_path / "after").open() as stores:
        await own_all(stores)
        pages = [page async for page in stores.engine.load_unfinished([3], 100)]
        assert [one.start for one in pages[0]] == [start_row(n) for n in range(10)]


@in_loop
async def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(OpenError, match="folder"):
        await open_store(f"sqlite:///{tmp_path}/none/bend.db", ManualClock())


@in_loop
async def test_a_file_that_is_no_database_is_said(tmp_path: Path) -> None:
    backend = Backend("sqlite", tmp_path)
    await asyncio.to_thread((tmp_path / "bend.db").write_bytes, b"not a database" * 500)
    with pytest.raises((OpenError, DomainError)):
        await open_store(backend.url, ManualClock())
    # The lock was let go.
    with pytest.raises((OpenError, DomainError)) as again:
        await open_store(backend.url, ManualClock())
    assert not isinstance(again.value, DatabaseTaken)


@in_loop
async def test_readers_run_while_the_writer_works(tmp_path: Path) -> None:
    backend = Backend("sqlite", tmp_path)
    async with backend.ready() as (stores, lease):
        async with asyncio.TaskGroup() as group:
            for number in range(20):
                group.create_task(write(stores, lease, Batch(starts=[start_row(number)])))
                group.create_task(stores.reads.workflow("default", "triage"))
        page = await stores.reads.executions(
            "default", workflow=None, statuses=[], label=None, before=None, limit=100
        )
        assert len(page) == 20
