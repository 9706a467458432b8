"""Run seeds by hand: `python -m tests.simulation --seed N` tells the story of one."""

import argparse
import sys
import time

from tests.simulation.seeds import SeedFailed, run_seed
from tests.simulation.world import Plant


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seed", type=int, help="run this seed and print its story")
    parser.add_argument("--first", type=int, default=0, help="first seed of a range")
    parser.add_argument("--count", type=int, default=500, help="how many seeds")
    parser.add_argument("--plant", choices=("ack_before_commit", "without_fence"))
    arguments = parser.parse_args()
    plant = Plant(**{arguments.plant: True}) if arguments.plant else Plant()
    if arguments.seed is not None:
        report = run_seed(arguments.seed, plant)
        print("\n".join(report.story))
        print(report._replace(story=[]))
        return
    failed = 0
    began = time.monotonic()
    for seed in range(arguments.first, arguments.first + arguments.count):
        try:
            run_seed(seed, plant)
        except SeedFailed as error:
            failed += 1
            print(str(error).splitlines()[0])
    print(f"{arguments.count} seeds, {failed} failed, {time.monotonic() - began:.1f} s")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
