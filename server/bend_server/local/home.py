"""The data folder of a mesh, and what is found in it."""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

FORMAT = 1
SOCKET_BYTES_MAX = 100
HOLD_TRIES = 10
HOLD_PAUSE_S = 0.02


class HomeFault(Exception):
    """The data folder cannot be used; the text says why."""


class Home:
    """Paths below one data folder. Making it touches nothing."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.certs = root / "certs"
        self.logs = root / "logs"
        self.run = root / "run"
        self.nats = root / "nats"
        self.blobs = root / "blobs"
        self.models = root / "models"
        self.endpoints = self.run / "endpoints.json"
        self.status = self.run / "status.json"
        self.lock = self.run / "lock"
        self.envoy_config = self.run / "envoy.json"
        self.nats_config = self.run / "nats.json"
        self._format = root / "format"

    def log(self, process: str) -> Path:
        """Return a process's log file."""
        return self.logs / f"{process}.log"

    def admin_socket(self) -> Path:
        """Return the gateway's admin socket; elsewhere when the folder's path is too long.

        Unix sockets have names of at most about 100 bytes. The other place is private to the user,
        and always the same for one data folder.
        """
        path = self.run / "envoy.sock"
        if len(os.fsencode(path)) <= SOCKET_BYTES_MAX:
            return path
        short = Path(tempfile.gettempdir()) / f"bend-{os.getuid()}"
        short.mkdir(mode=0o700, exist_ok=True)
        facts = short.stat()
        if facts.st_uid != os.getuid() or facts.st_mode & 0o077:
            raise HomeFault(f"{short} belongs to somebody else; remove it or use a shorter home")
        return short / f"{self.root.stat().st_ino:x}.sock"

    def prepare(self) -> None:
        """Make the folders; bring an older layout up to date after a backup.

        Raises:
            HomeFault: a newer release made this folder, or it belongs to another user.
            OSError: it cannot be written.
        """
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.root.stat().st_uid != os.getuid():
            raise HomeFault(f"{self.root} belongs to another user")
        self.root.chmod(0o700)
        stored = self._stored_format()
        if stored is not None and stored > FORMAT:
            raise HomeFault(
                f"{self.root} was made by a newer release (format {stored}, this one knows "
                f"{FORMAT}); use that release, or another home"
            )
        for folder in (self.certs, self.logs, self.run, self.nats, self.blobs, self.models):
            folder.mkdir(mode=0o700, exist_ok=True)
        if stored is None:
            self._format.write_text(f"{FORMAT}\n")
        elif stored < FORMAT:
            self._back_up(stored)
            self._format.write_text(f"{FORMAT}\n")

    def _stored_format(self) -> int | None:
        try:
            return int(self._format.read_text())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise HomeFault(f"{self._format} is damaged") from error

    def _back_up(self, stored: int) -> None:
        """Copy the database aside, before anything of a newer release writes to it."""
        folder = self.root / "backups" / f"format-{stored}"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for file in self.root.glob("bend.db*"):
            shutil.copy2(file, folder / file.name)

    def purge(self) -> bool:
        """Remove everything that the mesh made; what others put there stays.

        Returns False where no mesh was ever made: folders of such names are somebody else's.
        """
        if not self._format.is_file():
            return False
        for folder in (self.certs, self.logs, self.nats, self.blobs, self.root / "backups"):
            shutil.rmtree(folder, ignore_errors=True)
        for file in (*self.root.glob("bend.db*"), self._format):
            file.unlink(missing_ok=True)
        shutil.rmtree(self.run, ignore_errors=True)
        for folder in (self.models, self.root):
            with contextlib.suppress(OSError):
                folder.rmdir()
        return True

    def held(self) -> bool:
        """Tell whether a supervisor runs on this folder now."""
        try:
            with self.lock.open("r+") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return True
                return False
        except FileNotFoundError:
            return False

    @contextlib.contextmanager
    def hold(self) -> Iterator[bool]:
        """Hold the folder while the block lasts; yield False when another supervisor does.

        The operating system lets go when the holder dies, however it dies.
        """
        with self.lock.open("a") as file:
            # Somebody who only looks (see `held`) has it for a moment.
            for _ in range(HOLD_TRIES):
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(HOLD_PAUSE_S)
            else:
                yield False
                return
            yield True


def replace(path: Path, content: str) -> None:
    """Write a private file whole or not at all."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(content)
    fresh.replace(path)
