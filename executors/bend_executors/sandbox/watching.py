"""The memory of all processes, files and sockets of a sandbox together, which no rlimit bounds.

It is looked at often. Between two looks a task may take more than its limit; what each process
may take at all, and how many there may be, the kernel bounds. Pages that a fork shares count for
each process.
"""

import asyncio
import os
from functools import cache

from bend_executors.sandbox.isolation import PLACES
from bend_executors.sandbox.limits import Rules
from bend_executors.sandbox.process import Sandbox

INTERVAL_S = 0.2
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
PROCESSES_MAX = 10_000
# What the kernel keeps for a file of tmpfs, however empty it is.
INODE_BYTES = 1024
SOCKET_BYTES = 212_992


async def watch(made: Sandbox, rules: Rules) -> None:
    """End a sandbox that takes more memory than it may; runs until it is cancelled."""
    real = made.isolation.real
    while made.alive:
        await asyncio.sleep(INTERVAL_S)
        size = taken_bytes(made.process.pid, real, real and not rules.network)
        if size > rules.limits.total_bytes:
            made.over_memory = True
            made.kill()


def taken_bytes(first: int, own_files: bool, own_network: bool) -> int:
    """Return the private memory of a process and its descendants, and of what is their own beside.

    0 where nothing tells.
    """
    waiting, size = [first], 0
    seen: list[int] = []
    while waiting and len(seen) < PROCESSES_MAX:
        pid = waiting.pop()
        seen.append(pid)
        try:
            with open(f"/proc/{pid}/statm", "rb") as file:
                fields = file.read().split()
            size += (int(fields[1]) - int(fields[2])) * PAGE_BYTES
            for thread in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                    waiting += map(int, file.read().split())
        except (OSError, IndexError):
            # It ended meanwhile, or this system has no such files.
            continue
    # The second is the first inside and lives as long as all of it; by a way that hides its files,
    # another one shows them.
    inside = [pid for pid in (*seen[1:2], *seen[-1:]) if pid != first]
    if own_files:
        size += max(map(file_bytes, inside), default=0)
    if own_network:
        size += max(map(socket_bytes, inside), default=0)
    return size


def socket_bytes(pid: int) -> int:
    """Return what the sockets of a process's network may hold: sent and not yet received.

    Each as much as a socket has room for, and what TCP, which makes room, says by itself.
    """
    size = 0
    try:
        with open(f"/proc/{pid}/net/sockstat", encoding="ascii") as file:
            size += int(file.readline().split()[2]) * room_bytes()
        for name in ("tcp", "tcp6"):
            with open(f"/proc/{pid}/net/{name}", encoding="ascii") as file:
                next(file)
                for line in file:
                    sent, _, received = line.split()[4].partition(":")
                    size += int(sent, 16) + int(received, 16)
    except (OSError, ValueError, IndexError, StopIteration):
        pass
    return size


@cache
def room_bytes() -> int:
    """Return what a socket may hold that nobody made larger."""
    try:
        with open("/proc/sys/net/core/wmem_default", encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return SOCKET_BYTES


def file_bytes(pid: int) -> int:
    """Return what the scratch folders of a process inside take: contents, and files as such."""
    size = 0
    for place in PLACES:
        try:
            facts = os.statvfs(f"/proc/{pid}/root{place}")
        except OSError:
            continue
        size += (facts.f_blocks - facts.f_bfree) * facts.f_frsize
        size += (facts.f_files - facts.f_ffree) * INODE_BYTES
    return size
