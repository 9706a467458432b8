"""Seeds of random tests: the same in each run, so that what fails once fails again."""

import os
import random
import zlib

SEED_VARIABLE = "BEND_TEST_SEED"


def chance_of(name: str) -> tuple[int, random.Random]:
    """Return the seed of a test and a source of chance from it; the seed is printed.

    Args:
        name: of the test. It decides, unless BEND_TEST_SEED names another seed to try.
    """
    seed = int(os.environ.get(SEED_VARIABLE, zlib.crc32(name.encode())))
    print(f"{name}: seed {seed}")
    return seed, random.Random(seed)
