"""Migrations: a fresh schema equals a migrated one; old is backed up, newer is refused."""

import asyncio
import re
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from alembic import autogenerate
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, create_engine, inspect, text
from sqlalchemy.ext.asyncio import create_async_engine

from bend_server.core.ids import PARTITIONS
from bend_server.storage.faults import OpenError, SchemaTooNew
from bend_server.storage.opening import open_store
from bend_server.storage.schema import HEAD, MIGRATIONS, current_revision, head_revision, migrate
from bend_server.storage.sqlite import SqliteDatabase
from bend_server.storage.tables import metadata
from tests.kit.backends import Backend, ManualClock
from tests.kit.loops import in_loop
from tests.kit.postgres import PostgresServer


def differences(connection: Connection) -> list[Any]:
    """Return what Alembic would still change."""
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    return list(autogenerate.compare_metadata(context, metadata))


def described(connection: Connection) -> dict[str, Any]:
    """Return all that the database itself says about its tables."""
    looker = inspect(connection)
    return {
        table: {
            "columns": [
                {key: str(value) for key, value in column.items()}
                for column in looker.get_columns(table)
            ],
            "primary": looker.get_pk_constraint(table),
            "unique": sorted(map(str, looker.get_unique_constraints(table))),
            "indexes": sorted(map(str, looker.get_indexes(table))),
        }
        for table in sorted(looker.get_table_names())
        if table != "alembic_version"
    }


def test_fresh_equals_migrated_on_sqlite(tmp_path: Path) -> None:
    """Partial indexes and tables without rowid too: SQLite keeps the text."""
    texts = []
    for name, make in (("fresh", metadata.create_all), ("migrated", migrate)):
        engine = create_engine(f"sqlite:///{tmp_path / name}.db")
        with engine.begin() as connection:
            make(connection)
            assert differences(connection) == []
            rows = connection.execute(text("SELECT name, sql FROM sqlite_master"))
            texts.append(
                {
                    row.name: re.sub(r"\s+", " ", row.sql)
                    for row in rows
                    if row.sql and row.name != "alembic_version"
                }
            )
        engine.dispose()
    assert texts[0] == texts[1]
    assert len(texts[0]) > 14


@pytest.mark.postgres
def test_fresh_equals_migrated_on_postgresql(postgres_server: PostgresServer) -> None:
    found = []

    async def look(url: str, make: Any) -> None:
        engine = create_async_engine(url)
        async with engine.begin() as connection:
            await connection.run_sync(make)
            assert await connection.run_sync(differences) == []
            found.append(await connection.run_sync(described))
        await engine.dispose()

    for make in (metadata.create_all, migrate):
        asyncio.run(look(postgres_server.fresh_database(), make))
    assert found[0] == found[1]
    assert set(found[0]) == set(metadata.tables)


def test_head_is_the_newest_migration() -> None:
    """An ordinary start trusts this name and does not look at the migrations."""
    assert head_revision() == HEAD


@pytest.mark.postgres
@in_loop
async def test_servers_that_start_together_migrate_once(postgres_server: PostgresServer) -> None:
    url = await asyncio.to_thread(postgres_server.fresh_database)
    async with asyncio.TaskGroup() as group:
        opening = [group.create_task(open_store(url, ManualClock())) for _ in range(4)]
    for task in opening:
        stores = task.result()
        assert len(await stores.engine.partitions()) == PARTITIONS
        await stores.close()


@in_loop
async def test_all_partitions_are_seeded(tmp_path: Path) -> None:
    async with Backend("sqlite", tmp_path).open() as stores:
        owners = await stores.engine.partitions()
        assert [owner.partition for owner in owners] == list(range(PARTITIONS))


def test_a_second_migration_changes_nothing(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'bend.db'}")
    copies: list[str] = []
    for _ in range(2):
        with engine.begin() as connection:
            migrate(connection, copies.append)
            assert current_revision(connection) == head_revision()
    engine.dispose()
    assert copies == []


@in_loop
async def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    """An older release would write rows that the newer one does not understand."""
    backend = Backend("sqlite", tmp_path)
    async with backend.open():
        pass
    _stamp(tmp_path / "bend.db", "9999")
    with pytest.raises(SchemaTooNew, match="9999"):
        await open_store(backend.url, ManualClock())
    _stamp(tmp_path / "bend.db", head_revision())
    async with backend.open():
        pass


NEXT = """
revision = "next"
down_revision = "{head}"
branch_labels = None
depends_on = None

from alembic import op


def upgrade() -> None:
    op.execute("ALTER TABLE workflow ADD COLUMN color TEXT")
    op.execute("DELETE FROM workflow")
    {}
"""


def next_release(folder: Path, last: str) -> Path:
    """Return migrations with one more, which empties a table and then does `last`."""
    migrations = folder / "migrations"
    shutil.copytree(MIGRATIONS, migrations, ignore=shutil.ignore_patterns("__pycache__"))
    (migrations / "versions" / "next_color.py").write_text(NEXT.format(last, head=HEAD))
    return migrations


@in_loop
async def test_an_older_schema_is_copied_before_it_changes(tmp_path: Path) -> None:
    backend = Backend("sqlite", tmp_path)
    async with backend.ready():
        pass
    database = SqliteDatabase(tmp_path / "bend.db", ManualClock())
    await database.prepare(next_release(tmp_path, "pass"))
    await database.close()
    assert _workflows(tmp_path / "bend.db") == (True, 0)
    assert _workflows(tmp_path / f"bend.db.{HEAD}.backup") == (False, 1)
    # This release is the older one now.
    with pytest.raises(SchemaTooNew):
        await open_store(backend.url, ManualClock())


@in_loop
async def test_a_failed_upgrade_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    backend = Backend("sqlite", tmp_path)
    async with backend.ready():
        pass
    database = SqliteDatabase(tmp_path / "bend.db", ManualClock())
    with pytest.raises(RuntimeError, match="broken"):
        await database.prepare(next_release(tmp_path, "raise RuntimeError('broken')"))
    await database.close()
    assert _workflows(tmp_path / "bend.db") == (False, 1)
    async with backend.open() as stores:
        assert await stores.reads.workflow("default", "triage") is not None


@pytest.mark.parametrize(
    "url",
    [
        *("mysql://x/y", "sqlite://", "sqlite:///:memory:", "postgresql://x/y", "nonsense"),
        "postgresql+asyncpg://bend@db:port/bend",
    ],
)
@in_loop
async def test_other_urls_are_refused_without_their_password(url: str) -> None:
    with pytest.raises(OpenError):
        await open_store(url, ManualClock())
    with pytest.raises(OpenError) as caught:
        await open_store("mysql://me:secret@host/db", ManualClock())
    assert "secret" not in str(caught.value)


def _stamp(path: Path, revision: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    connection.commit()
    connection.close()


def _workflows(path: Path) -> tuple[bool, int]:
    """Return whether the new column is there, and how many rows."""
    connection = sqlite3.connect(path)
    columns = [row[1] for row in connection.execute("PRAGMA table_info(workflow)")]
    count = connection.execute("SELECT count(*) FROM workflow").fetchone()[0]
    connection.close()
    return "color" in columns, count
