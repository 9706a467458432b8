"""CPU and memory of the mesh's processes, read from the operating system."""

from collections.abc import Mapping

import psutil


def cpu_us(pids: Mapping[str, int]) -> dict[str, float]:
    """Return the CPU time used so far by each process with its children, microseconds."""
    used: dict[str, float] = {}
    for name, pid in pids.items():
        try:
            process = psutil.Process(pid)
            family = [process, *process.children(recursive=True)]
            used[name] = sum(1e6 * (t.user + t.system) for t in (p.cpu_times() for p in family))
        except psutil.NoSuchProcess:
            used[name] = 0.0
    return used


def spent_us(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Return what each process used between two readings; a restarted one counts from 0."""
    return {name: max(0.0, after[name] - before.get(name, 0.0)) for name in after}


def memory_mb(pids: Mapping[str, int]) -> dict[str, float]:
    """Return each process's proportional set size (resident size where there is none), MB."""
    sizes: dict[str, float] = {}
    for name, pid in pids.items():
        process = psutil.Process(pid)
        total = 0
        for member in [process, *process.children(recursive=True)]:
            full = member.memory_full_info()
            total += getattr(full, "pss", 0) or full.rss
        sizes[name] = total / 1e6
    return sizes


def own_cpu_us() -> float:
    """Return the CPU time that this process itself used so far, microseconds."""
    times = psutil.Process().cpu_times()
    return 1e6 * (times.user + times.system)
