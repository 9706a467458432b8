"""A real nats-server for tests: JetStream in a temporary folder, on a free loopback port."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.kit.programs import free_port

READY_S = 90.0


def nats_binary() -> str:
    """Return the path of the nats-server that the environment brings."""
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if not found:
        raise RuntimeError("no nats-server in this environment")
    return found


class NatsServer:
    """One server process that can be killed, wiped and started again on its port."""

    def __init__(self, folder: Path, *, extra: str = "") -> None:
        self.folder = folder
        self.port = free_port()
        self.store = folder / "store"
        self._config = folder / "nats.conf"
        self._extra = extra
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self._config.write_text(
            f"host: 127.0.0.1\nport: {self.port}\n"
            f'jetstream {{ store_dir: "{self.store}", max_file_store: 20G, max_mem: 256M }}\n'
            + extra
        )

    @property
    def url(self) -> str:
        """Where it listens."""
        scheme = "tls" if "tls" in self._extra else "nats"
        return f"{scheme}://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The running process."""
        if self._process is None:
            raise RuntimeError("nats-server does not run")
        return self._process.pid

    def start(self) -> "NatsServer":
        """Start and wait until it accepts connections."""
        with (self.folder / "nats.log").open("ab") as log:
            self._process = subprocess.Popen(
                [nats_binary(), "-c", str(self._config)],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "GOMAXPROCS": "1"},
            )
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), 5.0).close()
            except OSError:
                if self._process.poll() is not None:
                    break
                time.sleep(0.02)
            else:
                return self
        raise RuntimeError((self.folder / "nats.log").read_text()[-2000:])

    def kill(self, *, wipe: bool = False) -> None:
        """End it with SIGKILL; lose the store when asked."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if wipe:
            shutil.rmtree(self.store, ignore_errors=True)

    def stop(self) -> None:
        """End it."""
        self.kill()
