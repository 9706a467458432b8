"""A component service that keeps a journal: one line for every task it was given.

The journal is the component's own truth, written before it answers, so a test can compare what the
component did with what SQL says: nothing lost, nothing doubled, how many were done again.
"""

import asyncio
import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from bend import Context, Worker, component

JOURNAL_VARIABLE = "JOURNAL_FILE"


class Entry(NamedTuple):
    """One hand-over that the component saw."""

    execution: str
    task: str
    value: int


def read(path: Path) -> Counter[Entry]:
    """Return how often each task was given; a last line cut by a kill is left out."""
    found: Counter[Entry] = Counter()
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n"):
            execution, task, value = line.split()
            found[Entry(execution, task, int(value))] += 1
    return found


def main() -> None:
    """Serve `journal.step` until SIGTERM."""
    file = os.open(os.environ[JOURNAL_VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    @component("journal.step", version="1.0.0")
    async def step(context: Context, value: int, wait_ms: int) -> dict[str, int]:
        """Write the journal, take some time, answer the next value."""
        os.write(file, f"{context.execution_id} {context.task} {value}\n".encode())
        if wait_ms:
            await asyncio.sleep(wait_ms / 1000)
        return {"value": value + 1}

    Worker([step], credit=4096).run()


if __name__ == "__main__":
    main()
