"""The memory of all processes of a sandbox together, which no rlimit bounds: looked at often.

Between two looks a task may take more than its limit; what each process may take at all, and how
many there may be, the kernel bounds. Pages that a fork shares count for each process.
"""

import asyncio
import os

from bend_executors.sandbox.process import Sandbox

INTERVAL_S = 0.2
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
PROCESSES_MAX = 10_000


async def watch(made: Sandbox, bytes_max: int) -> None:
    """End a sandbox that takes more memory than it may; runs until it is cancelled."""
    while made.alive:
        await asyncio.sleep(INTERVAL_S)
        if resident_bytes(made.process.pid) > bytes_max:
            made.over_memory = True
            made.kill()


def resident_bytes(first: int) -> int:
    """Return the private memory of a process and all its descendants; 0 where nothing tells."""
    waiting, size, seen = [first], 0, 0
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
    return size
