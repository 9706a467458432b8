"""What a pool is, checked and with its defaults filled in."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bend.v1 import pool_pb2
from bend_server.core.errors import InvalidInput
from bend_server.executor.hello import NAME as COMPONENT
from bend_server.executor.hello import VERSION

PROCESS, DOCKER, KUBERNETES = "process", "docker", "kubernetes"
DRIVERS = (PROCESS, DOCKER, KUBERNETES)
NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
DIGEST = re.compile(r"[a-z0-9][a-zA-Z0-9._/:-]{0,255}@sha256:[0-9a-f]{64}")
# Set by the executor: a description cannot lead an instance to another mesh or identity.
RESERVED = frozenset(("BEND_URL", "BEND_CA_FILE", "BEND_CERT_FILE", "BEND_KEY_FILE"))
INSTANCES_MAX = 1000
DRAIN_S = 30.0
START_S = 60.0


@dataclass(frozen=True, slots=True)
class Scaling:
    """How demand becomes instances; seconds. `tasks` 0: as many as an instance takes at once."""

    tasks: int = 0
    age_s: float = 10.0
    up_after_s: float = 1.0
    down_after_s: float = 30.0
    idle_s: float = 60.0
    step_up: int = 4
    step_down: int = 1
    tolerance: float = 0.1


@dataclass(frozen=True, slots=True)
class Restarts:
    """When an instance that ended by itself is replaced; seconds."""

    backoff_s: float = 1.0
    backoff_max_s: float = 60.0
    crashes: int = 5
    window_s: float = 60.0
    pause_s: float = 300.0


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """One pool. `message` is its description as it was given, name included."""

    namespace: str
    name: str
    component: str
    version: str
    labels: Mapping[str, str]
    driver: str
    least: int
    most: int
    scaling: Scaling
    restarts: Restarts
    drain_s: float
    start_s: float
    message: pool_pb2.Pool

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return self.namespace, self.name

    @property
    def driven(self) -> Any:
        """The driver's own part of the description."""
        return getattr(self.message, self.driver)

    @property
    def fingerprint(self) -> str:
        """16 hex digits of what an instance is made from: others have to be replaced."""
        making = pool_pb2.Pool(
            component=self.component, version=self.version, resources=self.message.resources
        )
        getattr(making, self.driver).CopyFrom(self.driven)
        return hashlib.sha256(making.SerializeToString(deterministic=True)).hexdigest()[:16]


def pool_spec(namespace: str, message: pool_pb2.Pool) -> PoolSpec:
    """Check a description and return it with defaults.

    Raises:
        InvalidInput: says which field is wrong, and why.
    """
    if not NAME.fullmatch(message.name):
        raise wrong("name", "a pool's name has 1 to 40 small letters, digits and dashes")
    if not COMPONENT.fullmatch(message.component):
        raise wrong("component", f"{message.component[:80]!r} is no component name")
    if message.version and not VERSION.fullmatch(message.version):
        raise wrong("version", f"{message.version[:40]!r} is no exact version")
    driver = message.WhichOneof("driver")
    if driver is None:
        raise wrong("driver", f"one of {', '.join(DRIVERS)} has to be given")
    _check_driver(driver, message)
    most = message.max_instances or 1
    if not 0 <= message.min_instances <= most <= INSTANCES_MAX:
        raise wrong(
            "max_instances",
            f"min_instances {message.min_instances} to max_instances {most} has to lie in "
            f"0 to {INSTANCES_MAX}",
        )
    return PoolSpec(
        namespace=namespace,
        name=message.name,
        component=message.component,
        version=message.version,
        labels=dict(message.labels),
        driver=driver,
        least=message.min_instances,
        most=most,
        scaling=_scaling(message.scaling),
        restarts=_restarts(message.restarts),
        drain_s=_seconds(message, "drain", DRAIN_S),
        start_s=_seconds(message, "start", START_S),
        message=message,
    )


def wrong(field: str, text: str) -> InvalidInput:
    """Return the error of one field of a pool."""
    return InvalidInput(f"pool.{field}: {text}", field=f"pool.{field}")


def _check_driver(driver: str, message: pool_pb2.Pool) -> None:
    part = getattr(message, driver)
    if driver == PROCESS:
        if not part.command or not part.command[0]:
            raise wrong("process.command", "a program and its arguments, as a list")
        if any("\0" in word for word in part.command):
            raise wrong("process.command", "an argument holds a NUL character")
    elif not DIGEST.fullmatch(part.image):
        raise wrong(f"{driver}.image", "an image is named with its digest: NAME@sha256:…")
    for name, value in part.environment.items():
        place = f"{driver}.environment"
        if not VARIABLE.fullmatch(name) or "\0" in value:
            raise wrong(place, f"{name[:80]!r} is no variable")
        if driver == PROCESS and name in RESERVED:
            raise wrong(place, f"{name} is set by the executor")


def _scaling(part: pool_pb2.PoolScaling) -> Scaling:
    usual = Scaling()
    return Scaling(
        tasks=part.tasks_per_instance,
        age_s=_seconds(part, "age", usual.age_s),
        up_after_s=_seconds(part, "up_after", usual.up_after_s),
        down_after_s=_seconds(part, "down_after", usual.down_after_s),
        idle_s=_seconds(part, "idle", usual.idle_s),
        step_up=part.step_up or usual.step_up,
        step_down=part.step_down or usual.step_down,
        tolerance=part.tolerance_percent / 100
        if part.HasField("tolerance_percent")
        else usual.tolerance,
    )


def _restarts(part: pool_pb2.PoolRestarts) -> Restarts:
    usual = Restarts()
    return Restarts(
        backoff_s=_seconds(part, "backoff", usual.backoff_s),
        backoff_max_s=_seconds(part, "backoff_max", usual.backoff_max_s),
        crashes=part.crashes or usual.crashes,
        window_s=_seconds(part, "window", usual.window_s),
        pause_s=_seconds(part, "pause", usual.pause_s),
    )


def _seconds(message: Any, field: str, usual: float) -> float:
    if not message.HasField(field):
        return usual
    duration = getattr(message, field)
    return max(0.0, float(duration.seconds + duration.nanos / 1e9))
