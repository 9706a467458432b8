"""Becoming an instance: bounds are set, then the program takes this process's place.

Run by its path, with the standard library alone: `python -I -S confinement.py BOUNDS COMMAND…`,
BOUNDS being JSON with `parent` (pid), `nice`, `memory_bytes`, `open_files` (0: no bound).

It is a program, not a function between fork and exec: the executor runs gRPC's threads, whose
locks are in no good state in a forked child (seen: the child died in gRPC's own checks).
"""

import ctypes
import json
import os
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1
NOT_FOUND_EXIT = 127


def confine(parent: int, nice: int, memory_bytes: int, open_files: int) -> None:
    """Set this process's bounds; end it when its parent is gone already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    bounds = (
        # Not the address space: threads and models reserve far more of it than they use.
        (resource.RLIMIT_DATA, memory_bytes),
        (resource.RLIMIT_NOFILE, open_files),
    )
    for kind, bound in bounds:
        if bound:
            hard = resource.getrlimit(kind)[1]
            least = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
            resource.setrlimit(kind, (least, least))
    if nice:
        os.nice(nice)


def main(arguments: list[str]) -> int:
    """Confine, then become the program; returns only when there is no such program."""
    confine(**json.loads(arguments[0]))
    try:
        os.execvp(arguments[1], arguments[1:])  # noqa: S606 - a list, without a shell
    except OSError as error:
        sys.stderr.write(f"{arguments[1]}: {error}\n")
    return NOT_FOUND_EXIT


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
