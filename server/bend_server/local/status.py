"""What `bend status` shows: the supervisor's own account, checked against the machine."""

import asyncio
import json
import ssl
from typing import Any

from bend_server.local.home import Home
from bend_server.local.http_probe import ask

READY_S = 3.0


def read(home: Home) -> dict[str, Any]:
    """Return the status document: `ready home urls database processes`.

    Without a running supervisor all processes are `stopped`, whatever an old file says.
    """
    account = _account(home)
    running = home.held() and bool(account)
    urls = account.get("urls") or {"https": "", "http": ""}
    return {
        "ready": running and _ready(home, str(urls["https"])),
        "home": str(home.root),
        "urls": urls,
        "database": account.get("database", ""),
        "processes": [_process(entry, running) for entry in account.get("processes", [])],
    }


def supervisor_pid(home: Home) -> int | None:
    """Return the pid of the supervisor that runs on this home now."""
    if not home.held():
        return None
    pid = _account(home).get("pid")
    return pid if isinstance(pid, int) else None


def _account(home: Home) -> dict[str, Any]:
    try:
        found = json.loads(home.status.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _process(entry: dict[str, Any], running: bool) -> dict[str, Any]:
    shown = {
        "name": entry["name"],
        "pid": entry["pid"] if running and entry["pid"] else None,
        "state": entry["state"] if running else "stopped",
        "restarts": entry["restarts"],
        "address": entry["address"],
        "log": entry["log"],
        "rss_bytes": 0,
    }
    if shown["pid"]:
        import psutil  # not needed by the commands that only look for a pid

        try:
            shown["rss_bytes"] = psutil.Process(shown["pid"]).memory_info().rss
        except psutil.NoSuchProcess:
            # It has just died; the account does not say so yet.
            shown["pid"], shown["state"] = None, "restarting"
        except psutil.Error:
            pass
    return shown


def _ready(home: Home, https: str) -> bool:
    """Ask the gateway, as a load balancer would."""
    try:
        context = ssl.create_default_context(cafile=str(home.certs / "ca.pem"))
        port = int(https.rpartition(":")[2])
    except (OSError, ValueError, ssl.SSLError):
        return False
    answer = asyncio.run(ask("/readyz", port=port, tls=context, timeout_s=READY_S))
    return answer.status == 200
