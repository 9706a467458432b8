"""The ways to isolate: each turns rules into a command line; the first that holds is used.

A way holds when a process started with it reports, from the inside, that it is not root, has no
capabilities, may gain none, sees no process of the machine and no network, and writes no root.
"""

import json
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bend_executors.sandbox import syscalls
from bend_executors.sandbox.limits import Rules
from bend_executors.sandbox.namespaces import DEVICES, LINKS

# Users that nobody is: a range that no convention uses, and where this process may not become
# them (a container has 65,536 at most) those that systemd hands out for a service's time.
UIDS_FAR = range(0x7000_0000, 0x7FFE_0000)
UIDS_NEAR = range(61_184, 65_520)
PROCESSES_INSIDE = 4
PLACES = ("/tmp", "/scratch", "/dev/shm")  # noqa: S108 - inside, each sandbox has its own


@dataclass(frozen=True, slots=True)
class Isolation:
    """One way: its name, what it promises, and the words in front of a command."""

    name: str
    promise: str
    prefix: Callable[[Rules], list[str]]
    real: bool = True

    def command(self, rules: Rules, descriptor: int) -> list[str]:
        """Return the whole command line of a sandbox that talks over a descriptor."""
        settings = {
            "limits": self._limits(rules),
            "uid": fresh_uid() if self.real else None,
            "filter": syscalls.program().hex() if self.real else "",
            "path": list(rules.packages),
            "preload": list(rules.preload),
        }
        return [
            *self.prefix(rules),
            *(rules.python(), "-I", "-S", "-B", "-X", "utf8", "-c", source("inside")),
            *(str(descriptor), json.dumps(settings)),
        ]

    def _limits(self, rules: Rules) -> Mapping[str, int]:
        found = dict(rules.limits.resources())
        if not self.real:
            # Counted for the whole user, who runs more than this task.
            del found["processes"]
        return found

    def broken(self, facts: Mapping[str, Any], rules: Rules) -> str:
        """Return what does not hold in a sandbox that reported its facts, or ""."""
        if not self.real:
            return ""
        interfaces = set(facts.get("interfaces", ["?"]))
        checks = {
            "it runs as root": facts.get("uid", 0) == 0,
            "it has capabilities": facts.get("capabilities", 1) != 0,
            "it may gain privileges": facts.get("no_new_privileges") != 1,
            "no filter of system calls": bool(syscalls.program()) and facts.get("seccomp") != 2,
            "it sees other processes": facts.get("processes", 1000) > PROCESSES_INSIDE,
            "it sees the network": not rules.network and not interfaces <= {"lo"},
            "its root can be written": facts.get("writable", True),
        }
        return ", ".join(text for text, wrong in checks.items() if wrong)


def fresh_uid() -> int | None:
    """Return an unprivileged user of its own for a sandbox; None when this process is not root.

    One user a sandbox: the kernel counts processes by user, and root's it does not bound at all.
    """
    return secrets.choice(uids()) if os.getuid() == 0 else None


@cache
def uids() -> range:
    """Return the users that root may become here, for sandboxes."""
    try:
        lines = Path("/proc/self/uid_map").read_text(encoding="ascii").splitlines()
        maps = [[int(field) for field in line.split()] for line in lines]
    except (OSError, ValueError):
        return UIDS_NEAR
    far = any(first <= UIDS_FAR[0] and UIDS_FAR[-1] < first + count for first, _, count in maps)
    return UIDS_FAR if far else UIDS_NEAR


@cache
def source(name: str) -> str:
    """Return the text of a module that is run by `python -c`."""
    return (Path(__file__).parent / f"{name}.py").read_text(encoding="utf-8")


def _bubblewrap(rules: Rules) -> list[str]:
    found = shutil.which("bwrap", path="/usr/bin:/usr/local/bin:/bin")
    if found is None:
        raise FileNotFoundError("bwrap is not installed")
    words = [found, "--die-with-parent", "--new-session", "--unshare-ipc", "--unshare-pid"]
    words += ["--unshare-uts", "--unshare-cgroup-try", "--hostname", "sandbox"]
    if not rules.network:
        words.append("--unshare-net")
    if os.getuid() == 0:
        # Root mounts what only root may reach, and gives itself up inside.
        words += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        words += ["--unshare-user", "--disable-userns", "--uid", "65534", "--gid", "65534"]
    words += ["--proc", "/proc", "--perms", "0755", "--dir", "/dev"]
    for name, source in DEVICES.items():
        words += ["--dev-bind", f"/dev/{source}", f"/dev/{name}"]
    for link, target in LINKS.items():
        words += ["--symlink", target, f"/dev/{link}"]
    # Before what is shown: a folder of the operator's may lie below one of them.
    for place in PLACES:
        words += ["--perms", "1777", "--size", str(rules.limits.scratch_bytes), "--tmpfs", place]
    shown = rules.shown()
    for parent in parents([*shown, *rules.write]):
        # By itself bwrap makes them for its own user alone.
        words += ["--perms", "0755", "--dir", parent]
    for place in shown:
        if os.path.islink(place):
            words += ["--symlink", os.readlink(place), place]
        else:
            words += ["--ro-bind", place, place]
    for place in rules.write:
        words += ["--bind", place, place]
    return [*words, "--remount-ro", "/", "--chdir", "/scratch", "--"]


def parents(places: list[str]) -> list[str]:
    """Return all folders above these places, outer ones first."""
    found = {str(parent) for place in places for parent in Path(place).parents}
    return sorted(found - {"/", *PLACES})


def _namespaces(rules: Rules) -> list[str]:
    if sys.platform != "linux":
        raise FileNotFoundError("this system has no namespaces")
    settings = {
        "read": rules.shown(),
        "write": list(rules.write),
        "network": rules.network,
        "scratch_bytes": rules.limits.scratch_bytes,
    }
    words = [rules.python(), "-I", "-S", "-B", "-c", source("namespaces")]
    return [*words, json.dumps(settings)]


def _nothing(_rules: Rules) -> list[str]:
    return []


BUBBLEWRAP = Isolation(
    "bubblewrap", "namespaces by bwrap, seccomp, rlimits, an unprivileged user", _bubblewrap
)
NAMESPACES = Isolation(
    "namespaces", "namespaces by system calls, seccomp, rlimits, an unprivileged user", _namespaces
)
NONE = Isolation("none", "NO ISOLATION: rlimits only, by the operator's wish", _nothing, real=False)
WAYS = {way.name: way for way in (BUBBLEWRAP, NAMESPACES, NONE)}


def candidates(wanted: str) -> list[Isolation]:
    """Return the ways to try, best first; "none" is used only when it was asked for."""
    return [BUBBLEWRAP, NAMESPACES] if wanted == "auto" else [WAYS[wanted]]
