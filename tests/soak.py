"""`make soak`: seeds that the suite never tried, for as long as it is told.

Histories of the core and whole meshes on virtual time take turns, from a random first seed. It
stops at the first failure and prints how to run that seed again.
"""

import argparse
import random
import sys
import time

from tests.kit.random_runs import Story
from tests.simulation.seeds import SeedFailed, run_seed

HISTORIES_A_MESH = 20


def soak(minutes: float, first: int) -> int:
    """Run until the time is over; return the exit code."""
    deadline = time.monotonic() + minutes * 60
    meshes = histories = 0
    seed = first
    while time.monotonic() < deadline:
        try:
            run_seed(seed)
        except SeedFailed as error:
            print(error)
            return 1
        meshes += 1
        for story in range(seed * HISTORIES_A_MESH, (seed + 1) * HISTORIES_A_MESH):
            try:
                Story(story).play().check_replay()
            except Exception:
                print(f"history failed; again: python -m tests.soak --history {story}")
                raise
            histories += 1
        seed += 1
    print(f"{meshes} meshes and {histories} histories passed, seeds {first} to {seed - 1}")
    return 0


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--first", type=int, default=random.SystemRandom().randrange(1 << 31))
    parser.add_argument("--history", type=int, help="run one history of the core again")
    arguments = parser.parse_args()
    if arguments.history is not None:
        Story(arguments.history).play().check_replay()
        return
    print(f"first seed {arguments.first}, {arguments.minutes} minutes")
    sys.exit(soak(arguments.minutes, arguments.first))


if __name__ == "__main__":
    main()
