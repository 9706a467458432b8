"""The memory of all processes and files of a sandbox together, which no rlimit bounds.

It is looked at often. Between two looks a task may take more than its limit; what each process
may take at all, and how many there may be, the kernel bounds. Pages that a fork shares count for
each process.
"""

import asyncio
import os

from bend_executors.sandbox.isolation import PLACES
from bend_executors.sandbox.process import Sandbox

INTERVAL_S = 0.2
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
PROCESSES_MAX = 10_000
# What the kernel keeps for a file of tmpfs, however empty it is.
INODE_BYTES = 1024


async def watch(made: Sandbox, bytes_max: int) -> None:
    """End a sandbox that takes more memory than it may; runs until it is cancelled."""
    while made.alive:
        await asyncio.sleep(INTERVAL_S)
        if taken_bytes(made.process.pid, made.isolation.real) > bytes_max:
            made.over_memory = True
            made.kill()


def taken_bytes(first: int, own_files: bool) -> int:
    """Return the private memory of a process and its descendants, and of their own file systems.

    0 where nothing tells.
    """
    waiting, size, seen, pid = [first], 0, 0, first
    while waiting and seen < PROCESSES_MAX:
        pid = waiting.pop()
        seen += 1
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
    return size + (file_bytes(pid) if own_files and pid != first else 0)


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
