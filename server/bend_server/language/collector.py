"""A pause of Python's garbage collector while many objects are made that all stay.

Compiling 20,000 tasks makes a million objects and no cycles; without the pause, more than half of
the time goes to the collector's walks over them.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

# So many young objects take the collector longer than a server may stand still.
YOUNG_MAX = 100_000
# Python 3.12 counts some hundred objects of its own as frozen from the start; a server that froze
# what it had, many thousands.
FROZEN_BY_PYTHON_MAX = 2_000


@contextmanager
def paused_collector() -> Iterator[None]:
    """Pause the collector, unless somebody paused it before."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        if gc.get_count()[0] > YOUNG_MAX:
            _age()
        gc.enable()


def _age() -> None:
    """Spare the collector its first walk over what was made: half a second for 20,000 tasks.

    Freezing moves all objects out of its sight; unfreezing makes them old. A server froze what it
    had at its start, and that stays so.
    """
    frozen = gc.get_freeze_count()
    gc.freeze()
    if frozen <= FROZEN_BY_PYTHON_MAX:
        gc.unfreeze()
