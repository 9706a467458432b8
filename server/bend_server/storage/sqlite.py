"""SQLite: one process owns the file, one thread writes, a few threads read."""

import asyncio
import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.pool import QueuePool, StaticPool

from bend_server.core.errors import DependencyDown
from bend_server.ports.clock import Clock
from bend_server.storage.database import READ_S, WRITE_S
from bend_server.storage.faults import DatabaseTaken, OpenError, translated
from bend_server.storage.schema import MIGRATIONS, migrate

T = TypeVar("T")

READERS = 4
BUSY_MS = 5_000
# FULL: a commit is on the disk when it is answered. A large checkpoint interval keeps the
# group commit's latency even.
WRITER_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA wal_autocheckpoint=4000",
    f"PRAGMA busy_timeout={BUSY_MS}",
    "PRAGMA temp_store=MEMORY",
    "PRAGMA cache_size=-65536",
)
READER_PRAGMAS = (
    f"PRAGMA busy_timeout={BUSY_MS}",
    "PRAGMA query_only=ON",
    "PRAGMA cache_size=-16384",
)


class FileLock:
    """The ownership of a database file: an OS lock beside it, held as long as the process lives."""

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(database.name + ".lock")
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(self._file, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._file)
            raise DatabaseTaken(
                f"{database} is in use by process {owner}: one process may own a SQLite database "
                "(stop it, or use PostgreSQL for several)"
            ) from None
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let go. The file stays: removing it would race with the next owner."""
        os.close(self._file)


def _engine(path: Path, begin: str, pragmas: tuple[str, ...], *, writer: bool) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        poolclass=StaticPool if writer else QueuePool,
        connect_args={"check_same_thread": False, "timeout": BUSY_MS / 1000},
        **({} if writer else {"pool_size": READERS, "max_overflow": 0, "pool_timeout": READ_S}),
    )

    @event.listens_for(engine, "connect")
    def connected(connection: sqlite3.Connection, _record: object) -> None:
        # The driver's own transaction control would begin too late and commit before DDL.
        connection.isolation_level = None
        for pragma in pragmas:
            connection.execute(pragma)

    @event.listens_for(engine, "begin")
    def began(connection: Connection) -> None:
        driver: Any = connection.connection.dbapi_connection
        driver.execute(begin)

    return engine


class SqliteDatabase:
    """`storage.database.Database` over one file."""

    kind = "sqlite"

    def __init__(self, path: Path, clock: Clock) -> None:
        if not path.parent.is_dir():
            raise OpenError(f"the folder of the database does not exist: {path.parent}")
        self.path = path
        self._clock = clock
        self._lock = FileLock(path)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="sqlite-write")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="sqlite-read")
        self._write_engine = _engine(path, "BEGIN IMMEDIATE", WRITER_PRAGMAS, writer=True)
        self._read_engine = _engine(path, "BEGIN", READER_PRAGMAS, writer=False)
        self._connection: Connection | None = None
        self._local = threading.local()
        self._reading: list[Connection] = []

    async def prepare(self, migrations: Path = MIGRATIONS) -> None:
        """Migrate; an older schema is copied to `<file>.<revision>.backup` first."""
        await self.write(
            lambda connection: migrate(connection, self._back_up, migrations), timeout_s=600
        )

    def _back_up(self, revision: str) -> None:
        copy = self.path.with_name(f"{self.path.name}.{revision}.backup")
        copy.unlink(missing_ok=True)
        source, target = sqlite3.connect(self.path), sqlite3.connect(copy)
        try:
            source.backup(target)
        finally:
            target.close()
            source.close()

    def time_us(self, connection: Connection) -> int:
        """Return this machine's clock: there is no other."""
        return self._clock.now_us()

    async def write(self, work: Callable[[Connection], T], timeout_s: float = WRITE_S) -> T:
        """Run a function in one transaction in the writer thread, first come first served."""
        return await self._run(self._writer, lambda: self._write(work), timeout_s)

    async def read(self, work: Callable[[Connection], T], timeout_s: float = READ_S) -> T:
        """Run a function on one snapshot in a reader thread."""
        return await self._run(self._readers, lambda: self._read(work), timeout_s)

    # A transaction costs a microsecond here.
    query = read

    async def write_driver(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run a function over the driver's connection in one transaction in the writer thread."""
        return await self._run(self._writer, lambda: self._write_driver(work), WRITE_S)

    def _write_driver(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with translated():
            driver: Any = self._connected().connection.dbapi_connection
            driver.execute("BEGIN IMMEDIATE")
            try:
                done = work(driver)
                driver.execute("COMMIT")
            except BaseException:
                # A failed COMMIT may have ended the transaction already.
                if driver.in_transaction:
                    driver.execute("ROLLBACK")
                raise
            return done

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = self._write_engine.connect()
        return self._connection

    def _write(self, work: Callable[[Connection], T]) -> T:
        with translated():
            connection = self._connected()
            with connection.begin():
                return work(connection)

    def _read(self, work: Callable[[Connection], T]) -> T:
        with translated():
            connection: Connection | None = getattr(self._local, "connection", None)
            if connection is None:
                # One connection a thread: taking it from the pool costs as much as a read.
                connection = self._local.connection = self._read_engine.connect()
                self._reading.append(connection)
            with connection.begin():
                return work(connection)

    async def _run(self, pool: ThreadPoolExecutor, work: Callable[[], T], timeout_s: float) -> T:
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.get_running_loop().run_in_executor(pool, work)
        except TimeoutError as error:
            raise DependencyDown(
                f"SQLite did not answer in {timeout_s:g} s", timeout_s=timeout_s
            ) from error

    async def close(self) -> None:
        """End threads and connections, then let go of the file."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._close)

    def _close(self) -> None:
        self._readers.shutdown(wait=True)
        for connection in self._reading:
            connection.close()
        self._read_engine.dispose()
        self._writer.shutdown(wait=True)
        if self._connection is not None:
            self._connection.close()
        self._write_engine.dispose()
        self._lock.release()
