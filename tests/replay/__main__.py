"""Record histories: `python -m tests.replay`."""

from tests.replay.record import main

main()
