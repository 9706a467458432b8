"""What a pool needs of the place where its instances run: the port of the drivers.

A driver only does what it is told: it makes, asks, kills and lists. When to do so is decided in
`keeper`, the same for processes, containers and pods.
"""

from typing import NamedTuple, Protocol

from bend_server.executor.pools.spec import PoolSpec


class DriverFault(Exception):
    """The place refused, or cannot be reached; the text says why, for people."""


class Unit(NamedTuple):
    """One instance as its driver sees it.

    Args:
        name: unique in the place; starts with the pool's name.
        number: from 1, the lowest that was free.
        place: where it is, for people: `pid 4711`, `container 12ab…`, `pod …`.
        alive: False: it has ended, and waits to be removed.
        started_us: Unix microseconds.
        ended: why it is not alive, for people.
        cpu: processors in use, sampled.
        memory_bytes: memory in use, sampled.
        asked: it was asked to finish, perhaps by an earlier executor.
        made_from: fingerprint of the description it was made from.
    """

    name: str
    number: int
    place: str
    alive: bool
    started_us: int
    ended: str = ""
    cpu: float = 0.0
    memory_bytes: int = 0
    asked: bool = False
    made_from: str = ""


class Driver(Protocol):
    """One kind of place. Every call has a deadline of its own and raises DriverFault past it."""

    @property
    def outlives(self) -> bool:
        """Whether instances stay when this executor ends: another one then finds them."""
        ...

    async def units(self, spec: PoolSpec) -> list[Unit]:
        """Return the instances of a pool, ended ones too, with samples. Raises DriverFault."""
        ...

    async def start(self, spec: PoolSpec, name: str, number: int) -> None:
        """Make an instance. Raises DriverFault."""
        ...

    async def ask(self, spec: PoolSpec, name: str) -> None:
        """Ask an instance to finish (SIGTERM). An unknown one is no error. Raises DriverFault."""
        ...

    async def kill(self, spec: PoolSpec, name: str) -> None:
        """End an instance with all its children at once. Raises DriverFault."""
        ...

    async def remove(self, spec: PoolSpec, name: str) -> None:
        """Forget one that has ended. Raises DriverFault."""
        ...

    async def close(self) -> None:
        """Let go of what the driver itself holds. Idempotent."""
        ...
