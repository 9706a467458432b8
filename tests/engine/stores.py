"""Stores that misbehave on demand."""

import asyncio
from collections.abc import Callable
from typing import Any

from bend_server.core.errors import DependencyDown, InvalidInput
from bend_server.ports.store import Batch, Committed, EngineStore, Lease


class TroubledStore:
    """A store whose commits can be held, lost, half lost, or refused; all else goes through.

    Attributes:
        gate: commits wait while it is not set.
        fail_before, fail_after: so many commits raise DependencyDown, before or after they write.
        refuse: a batch for which it is true is refused as bad data.
        commits: batches that were written.
    """

    def __init__(self, inner: EngineStore) -> None:
        self.inner = inner
        self.gate = asyncio.Event()
        self.gate.set()
        self.fail_before = 0
        self.fail_after = 0
        self.refuse: Callable[[Batch], bool] = lambda _: False
        self.commits: list[Batch] = []
        self.arrived = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def commit(self, lease: Lease, partitions: frozenset[int], batch: Batch) -> Committed:
        """Commit, or not."""
        self.arrived += 1
        await self.gate.wait()
        if self.fail_before:
            self.fail_before -= 1
            raise DependencyDown("down before the write")
        if self.refuse(batch):
            raise InvalidInput("a value does not fit")
        committed = await self.inner.commit(lease, partitions, batch)
        self.commits.append(batch)
        if self.fail_after:
            self.fail_after -= 1
            raise DependencyDown("down after the write")
        return committed
