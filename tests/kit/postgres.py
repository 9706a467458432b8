"""A real PostgreSQL server for tests, in a temporary folder, with the defaults that keep data."""

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import asyncpg
import pytest

from bend_server.storage.tables import metadata
from tests.kit.programs import free_port

START_S = 240.0
CONNECT_S = 20.0
STOP_S = 60.0
# What the driver raises when the server goes away or comes up. Its InternalClientError belongs to
# no other family: a farewell of the server in the middle of an answer confuses its state machine.
AWAY = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
MISSING = "PostgreSQL's server programs are missing: install the Debian package `postgresql`"


def programs() -> Path | None:
    """Return the folder of the server's programs, the newest one, or None."""
    on_path = shutil.which("postgres")
    if on_path is not None:
        return Path(on_path).resolve().parent
    found = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    newest = max(found, key=lambda path: int(path.parts[-3]), default=None)
    return None if newest is None else newest.parent


def _user() -> str | None:
    """Return whom the server runs as: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in names), None)


class PostgresServer:
    """One cluster: start, SIGKILL, start again; each database has a URL."""

    def __init__(self) -> None:
        folder = programs()
        if folder is None:
            pytest.skip(MISSING)
        self._programs = folder
        self._user = _user()
        self.folder = Path(tempfile.mkdtemp(prefix="bend-pg-"))
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0
        self._clean: str | None = None
        if self._user is not None:
            entry = pwd.getpwnam(self._user)
            os.chown(self.folder, entry.pw_uid, entry.pw_gid)
        self._run(
            "initdb",
            "-D",
            str(self.folder / "data"),
            "-U",
            "bend",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "-N",
        )

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self._programs / program, *arguments],
            check=True,
            capture_output=True,
            user=self._user,
            cwd=self.folder,
            timeout=200,
        )

    @property
    def pid(self) -> int:
        """The postmaster's process id."""
        if self._process is None:
            raise RuntimeError("the server is not started")
        return self._process.pid

    def start(self) -> None:
        """Start the postmaster and wait until it answers.

        The children of a killed one may hold its shared memory a moment longer: then the new one
        ends at once, and is started again.
        """
        deadline = time.monotonic() + START_S
        while True:
            self._launch()
            if asyncio.run(self._answers(deadline)):
                return
            if time.monotonic() > deadline:
                raise RuntimeError((self.folder / "log").read_text()[-2000:])

    def _launch(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self._programs / "postgres",
                    *("-D", str(self.folder / "data"), "-k", str(self.folder)),
                    *("-h", "127.0.0.1", "-p", str(self.port), "-c", "fsync=on"),
                    *("-c", "max_connections=60"),
                ],
                stdout=log,
                stderr=log,
                user=self._user,
                cwd=self.folder,
                start_new_session=True,
            )

    async def _answers(self, deadline: float) -> bool:
        while time.monotonic() < deadline:
            try:
                connection = await asyncpg.connect(self._plain("postgres"), timeout=CONNECT_S)
            except AWAY:
                if self._process is None or self._process.poll() is not None:
                    return False
                await asyncio.sleep(0.02)
            else:
                await connection.close()
                return True
        return False

    def _plain(self, database: str) -> str:
        return f"postgresql://bend@127.0.0.1:{self.port}/{database}"

    def url(self, database: str) -> str:
        """Return what BEND_DATABASE_URL would be."""
        return f"postgresql+asyncpg://bend@127.0.0.1:{self.port}/{database}"

    def fresh_database(self) -> str:
        """Make an empty database; return its URL."""
        self._databases += 1
        name = f"test{self._databases}"

        async def create() -> None:
            connection = await asyncpg.connect(self._plain("postgres"), timeout=CONNECT_S)
            try:
                await connection.execute(f"CREATE DATABASE {name}")
            finally:
                await connection.close()

        asyncio.run(create())
        return self.url(name)

    def clean_database(self) -> str:
        """Return the URL of one database that all callers share, emptied of rows."""
        if self._clean is None:
            self._clean = self.fresh_database()
            return self._clean

        async def empty() -> None:
            name = self._clean.rpartition("/")[2] if self._clean else ""
            connection = await asyncpg.connect(self._plain(name), timeout=CONNECT_S)
            try:
                for table in metadata.sorted_tables:
                    if table.name not in {"partition", "counter"}:
                        await connection.execute(f"DELETE FROM {table.name}")
                await connection.execute("UPDATE partition SET lease = NULL")
            finally:
                await connection.close()

        asyncio.run(empty())
        return self._clean

    def kill(self) -> None:
        """SIGKILL the postmaster; its children see that and end by themselves."""
        os.kill(self.pid, signal.SIGKILL)
        if self._process is not None:
            self._process.wait(timeout=STOP_S)
            self._process = None

    def stop(self) -> None:
        """Stop at once and remove everything."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            try:
                self._process.wait(timeout=STOP_S)
            except subprocess.TimeoutExpired:
                self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
