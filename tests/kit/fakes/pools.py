"""A place for pools' instances that a test drives, and descriptions for it."""

from typing import Any

from bend.internal.v1 import control_pb2
from bend.v1 import pool_pb2
from bend_server.executor.pools.driver import DriverFault, Unit
from bend_server.executor.pools.spec import PoolSpec, pool_spec

DIGEST = "sha256:" + "ab" * 32


def described(name: str = "slow", **fields: Any) -> pool_pb2.Pool:
    """Return a description; a process pool of up to 8 instances unless told otherwise."""
    given: dict[str, Any] = {"component": "example.slow", "max_instances": 8, **fields}
    pool = pool_pb2.Pool(name=name, **given)
    if pool.WhichOneof("driver") is None:
        pool.process.command.append("worker")
    return pool


def spec_of(name: str = "slow", **fields: Any) -> PoolSpec:
    """Return a checked description in the namespace `default`."""
    return pool_spec("default", described(name, **fields))


class FakeDriver:
    """Instances are entries in `alive`; `fault` is raised by every call when it is set."""

    def __init__(self, *, outlives: bool = False) -> None:
        self.outlives = outlives
        self.alive: dict[str, Unit] = {}
        self.ended: dict[str, Unit] = {}
        self.asked: list[str] = []
        self.killed: list[str] = []
        self.started: list[str] = []
        self.closed = False
        self.fault = ""
        self.obedient = True

    def end(self, name: str, why: str = "exit code 1") -> None:
        """Let an instance end by itself."""
        self.ended[name] = self.alive.pop(name)._replace(alive=False, ended=why)

    async def units(self, spec: PoolSpec) -> list[Unit]:
        self._check()
        return [
            unit
            for unit in (*self.alive.values(), *self.ended.values())
            if unit.name.startswith(f"{spec.name}-")
        ]

    async def start(self, spec: PoolSpec, name: str, number: int) -> None:
        self._check()
        self.started.append(name)
        self.alive[name] = Unit(
            name, number, "here", alive=True, started_us=1, made_from=spec.fingerprint
        )

    async def ask(self, spec: PoolSpec, name: str) -> None:
        self._check()
        self.asked.append(name)
        if self.obedient and name in self.alive:
            self.end(name, "exit code 0")

    async def kill(self, spec: PoolSpec, name: str) -> None:
        self._check()
        self.killed.append(name)
        if name in self.alive:
            self.end(name, "killed by SIGKILL")

    async def remove(self, spec: PoolSpec, name: str) -> None:
        self._check()
        self.ended.pop(name, None)

    async def close(self) -> None:
        self.closed = True

    def _check(self) -> None:
        if self.fault:
            raise DriverFault(self.fault)


def demand(waiting: int, *, open_: int = 0, oldest_us: int = 0, engine: str = "e1") -> bytes:
    """Return an engine's notice for the component `example.slow`."""
    notice = control_pb2.DemandNotice(engine=engine)
    if waiting:
        notice.lanes.add(
            namespace="default", component="example.slow", waiting=waiting, oldest_us=oldest_us
        )
    if open_:
        notice.groups.add(
            namespace="default", component="example.slow", version="1.0.0", open=open_
        )
    return notice.SerializeToString()


def announcement(sequence: int, *instances: str, credit: int = 4, **fields: Any) -> bytes:
    """Return an executor's announcement of instances of `example.slow`.

    An instance is named `pool/name`; one that starts with `/` is nobody's pool's.
    """
    message = control_pb2.InstanceAnnouncement(
        executor=fields.get("executor", "x1"), sequence=sequence, incarnation=1
    )
    group = message.groups.add(
        group="g", namespace="default", component="example.slow", version="1.0.0"
    )
    for name in instances:
        group.instances.add(
            instance_id=name,
            credit=credit,
            in_flight=fields.get("in_flight", 0),
            draining=name in fields.get("draining", ()),
            pool_instance="" if name.startswith("/") else name,
        )
    return message.SerializeToString()
