"""`make soak`: seeds that the suite never tried, for as long as it is told.

Whole meshes on virtual time and histories of the core take turns, from a random first seed: of the
histories, most are duels of the machine with the reference model. It stops at the first failure
and prints how to run that seed again. `--duels-only` leaves the meshes out: a million histories
take about a quarter of an hour.
"""

import argparse
import random
import sys
import time

from tests.core.drawn import play
from tests.kit.random_runs import Story
from tests.simulation.seeds import SeedFailed, run_seed

HISTORIES_A_MESH = 20
DUELS_A_MESH = 2000


def soak(minutes: float, first: int, *, duels_only: bool) -> int:
    """Run until the time is over; return the exit code."""
    deadline = time.monotonic() + minutes * 60
    meshes = histories = duels = 0
    seed = first
    while time.monotonic() < deadline:
        if not duels_only:
            try:
                run_seed(seed)
            except SeedFailed as error:
                print(error)
                return 1
            meshes += 1
        for duel in range(seed * DUELS_A_MESH, (seed + 1) * DUELS_A_MESH):
            play(duel, healing=duel % 4 == 0)
            duels += 1
        for story in range(seed * HISTORIES_A_MESH, (seed + 1) * HISTORIES_A_MESH):
            try:
                Story(story).play().check_replay()
            except Exception:
                print(f"history failed; again: python -m tests.soak --history {story}")
                raise
            histories += 1
        seed += 1
    print(
        f"{meshes} meshes, {duels} duels and {histories} histories passed, "
        f"seeds {first} to {seed - 1}"
    )
    return 0


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--first", type=int, default=random.SystemRandom().randrange(1 << 31))
    parser.add_argument("--history", type=int, help="run one history of the core again")
    parser.add_argument("--duel", type=int, help="run one duel of the core again")
    parser.add_argument("--duels-only", action="store_true", help="no meshes")
    arguments = parser.parse_args()
    if arguments.duel is not None:
        play(arguments.duel, healing=True)
        return
    if arguments.history is not None:
        Story(arguments.history).play().check_replay()
        return
    print(f"first seed {arguments.first}, {arguments.minutes} minutes")
    sys.exit(soak(arguments.minutes, arguments.first, duels_only=arguments.duels_only))


if __name__ == "__main__":
    main()
