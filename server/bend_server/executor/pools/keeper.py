"""One pool: looks at its instances again and again, and starts and stops what is needed."""

import asyncio
from collections import deque
from dataclasses import dataclass

import structlog

from bend_server.core import limits
from bend_server.executor.pools.crashes import Crashes
from bend_server.executor.pools.driver import Driver, DriverFault, Unit
from bend_server.executor.pools.heard import Connected, Demand, Heard
from bend_server.executor.pools.scaling import Observation, Trend, trend, wanted
from bend_server.executor.pools.spec import PoolSpec
from bend_server.ports.clock import Chance, Clock

ACTIVE, CRASH_LOOP, BROKEN, STOPPING = "ACTIVE", "CRASH_LOOP", "BROKEN", "STOPPING"
STARTING, READY, DRAINING = "STARTING", "READY", "DRAINING"
ENDS_KEPT = 20
MIB = 1024 * 1024

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Kept:
    """What the keeper knows of an instance beyond its driver. Times are loop seconds."""

    unit: Unit
    since: float
    connected: Connected | None = None
    connected_since: float | None = None
    asked_at: float | None = None
    killed: bool = False
    proven: bool = False
    fault: str = ""

    @property
    def state(self) -> str:
        """STARTING, READY or DRAINING."""
        if self.asked_at is not None or (self.connected is not None and self.connected.draining):
            return DRAINING
        return READY if self.connected is not None else STARTING


@dataclass(slots=True)
class Counts:
    """Counters since the pool was taken."""

    starts: int = 0
    failures: int = 0
    stops: int = 0
    kills: int = 0


class Keeper:
    """Keeps one pool. `tick` is never run twice at once.

    Args:
        spec: the pool; replaced by `change`.
        driver: where its instances run.
        heard: what the mesh says.
        clock, chance: for names and ages.
    """

    def __init__(
        self, spec: PoolSpec, driver: Driver, heard: Heard, clock: Clock, chance: Chance
    ) -> None:
        self.spec = spec
        self.driver = driver
        self.held: int | None = None
        self.wanted = spec.least
        self.state = ACTIVE
        self.reason = ""
        self.demand = Demand()
        self.kept: dict[str, Kept] = {}
        self.counts = Counts()
        self.ends: deque[str] = deque(maxlen=ENDS_KEPT)
        self.leaving = False
        self._first = True
        self._heard = heard
        self._clock = clock
        self._chance = chance
        self._crashes = Crashes(spec.restarts)
        self._trend = Trend()
        self._changed_at: float | None = None
        self._credit = 0

    def change(self, spec: PoolSpec, held: int | None) -> None:
        """Follow a new description; instances of another program are replaced one by one."""
        if (spec.restarts, spec.fingerprint) != (self.spec.restarts, self.spec.fingerprint):
            # What was wrong may be right now.
            self._crashes = Crashes(spec.restarts)
        self.spec, self.held = spec, held

    @property
    def gone(self) -> bool:
        """Whether it was told to leave and nothing is left."""
        return self.leaving and not self.kept

    async def tick(self, now: float) -> None:
        """Look once, and act; faults of the driver become the pool's state."""
        try:
            await self._look(now)
            if self._first:
                # What an earlier executor left running was needed a moment ago.
                self._first = False
                self.wanted = max(self.spec.least, min(self.spec.most, len(self.kept)))
            self._aim(now)
            await self._overdue(now)
            await self._fit(now)
        except DriverFault as error:
            if self.state != BROKEN or self.reason != str(error):
                _log.warning("pool_broken", pool=self.spec.name, error=str(error))
            self.state, self.reason = BROKEN, str(error)
            return
        self._judge(now)

    # Looking

    async def _look(self, now: float) -> None:
        units = await self.driver.units(self.spec)
        connected = self._heard.connected(self.spec.namespace, self.spec.name)
        for unit in units:
            kept = self.kept.get(unit.name)
            if kept is None:
                kept = self.kept[unit.name] = Kept(unit, now)
                kept.asked_at = now if unit.asked else None
            kept.unit = unit
            self._meet(kept, connected.get(unit.name), now)
        alive = {unit.name for unit in units if unit.alive}
        for name in [name for name in self.kept if name not in alive]:
            kept = self.kept.pop(name)
            self._ended(kept, now)
            await self.driver.remove(self.spec, name)

    def _meet(self, kept: Kept, connected: Connected | None, now: float) -> None:
        kept.connected = connected
        if connected is None:
            return
        if kept.connected_since is None:
            kept.connected_since = now
        if not connected.draining:
            self._credit = connected.credit
        if not kept.proven and now - kept.connected_since >= self.spec.restarts.window_s:
            kept.proven = True
            self._crashes.steady(now)

    def _ended(self, kept: Kept, now: float) -> None:
        unit = kept.unit
        if kept.fault or kept.state != DRAINING:
            text = kept.fault or unit.ended or "it ended"
            self.counts.failures += 1
            self.ends.append(f"{unit.name}: {text}"[: limits.MESSAGE_CHARS_MAX])
            self._crashes.ended(now)
            _log.warning("pool_instance_failed", pool=self.spec.name, name=unit.name, why=text)
        else:
            self.counts.stops += 1

    # Deciding

    def _aim(self, now: float) -> None:
        spec = self.spec
        self.demand = self._heard.demand(spec)
        busy = sum(k.connected.in_flight for k in self.kept.values() if k.connected)
        waiting, opened, elsewhere, _ = self.demand
        seen = Observation(
            current=self.wanted,
            demand=max(busy, waiting + opened - elsewhere),
            oldest_s=self.oldest_s(),
            credit=self._credit,
            trend=self._trend,
            changed_at=self._changed_at,
        )
        self._trend = trend(spec, self._trend, seen, now)
        if self.leaving:
            aim = 0
        elif self.held is not None:
            aim = min(self.held, spec.most)
        else:
            aim = wanted(spec, seen._replace(trend=self._trend), now)
        if aim != self.wanted:
            _log.info("pool_scaled", pool=spec.name, wanted=aim, before=self.wanted)
            self.wanted = aim
            self._changed_at = now

    def oldest_s(self) -> float:
        """Return how long the oldest waiting task has waited, seconds."""
        oldest_us = self.demand.oldest_us
        return max(0.0, (self._clock.now_us() - oldest_us) / 1e6) if oldest_us else 0.0

    def _judge(self, now: float) -> None:
        if self.leaving:
            self.state, self.reason = STOPPING, ""
        elif self._crashes.looping:
            last = self.ends[-1] if self.ends else ""
            wait_s = self._crashes.wait_s(now)
            self.state = CRASH_LOOP
            self.reason = f"{last}; the next try comes in {wait_s:.0f} s"
        else:
            self.state, self.reason = ACTIVE, ""
            if self._crashes.wait_s(now) and self.ends:
                self.reason = f"{self.ends[-1]}; starts again"

    # Acting

    async def _overdue(self, now: float) -> None:
        """End what did not connect, did not finish, or uses too much memory."""
        spec = self.spec
        memory_max = spec.message.resources.memory_mib * MIB
        for kept in list(self.kept.values()):
            if kept.killed:
                continue
            if kept.state == DRAINING and kept.asked_at is None:
                # Somebody else has told it to drain: it serves no more, so it may end.
                await self._ask(kept, now)
            if kept.asked_at is not None:
                if now - kept.asked_at > spec.drain_s:
                    self.counts.kills += 1
                    await self._kill(kept)
            elif kept.connected_since is None and now - kept.since > spec.start_s:
                await self._kill(kept, f"it did not connect within {spec.start_s:g} s")
            elif memory_max and kept.unit.memory_bytes > memory_max:
                used = kept.unit.memory_bytes // MIB
                await self._kill(kept, f"it used {used} MiB of {memory_max // MIB}")

    async def _kill(self, kept: Kept, fault: str = "") -> None:
        kept.killed = True
        kept.fault = fault
        await self.driver.kill(self.spec, kept.unit.name)

    async def _fit(self, now: float) -> None:
        """Start or stop until the number fits; replace what runs an older description."""
        serving = [k for k in self.kept.values() if k.state != DRAINING and not k.killed]
        surplus = len(serving) - self.wanted
        if surplus > 0:
            serving.sort(key=_least_missed)
            for kept in serving[:surplus]:
                await self._ask(kept, now)
            return
        # An allowed start may not bring more than `most` into being, those that finish apart.
        missing = -surplus
        unproven = sum(not k.proven for k in serving)
        allowed = self._crashes.allowed(now, unproven)
        for _ in range(missing if allowed is None else min(missing, allowed)):
            await self._start(now)
        if missing or any(k.state == STARTING for k in serving):
            return
        for kept in serving:
            if kept.unit.made_from != self.spec.fingerprint:
                await self._ask(kept, now)
                return

    async def _ask(self, kept: Kept, now: float) -> None:
        kept.asked_at = now
        await self.driver.ask(self.spec, kept.unit.name)

    async def _start(self, now: float) -> None:
        taken = {kept.unit.number for kept in self.kept.values()}
        number = next(n for n in range(1, len(taken) + 2) if n not in taken)
        name = f"{self.spec.name}-{number}-{self._chance.u64() & 0xFFFFFFFF:08x}"
        await self.driver.start(self.spec, name, number)
        self.counts.starts += 1
        unit = Unit(
            name,
            number,
            "",
            alive=True,
            started_us=self._clock.now_us(),
            made_from=self.spec.fingerprint,
        )
        self.kept[name] = Kept(unit, now)

    async def stop(self, within_s: float) -> None:
        """End all instances: ask, wait at most `within_s` seconds, kill. Faults are logged."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_s
        self.leaving = True
        killed = False
        while True:
            try:
                await self._look(loop.time())
                self.wanted = 0
                await self._fit(loop.time())
                late = loop.time() >= deadline
                if not self.kept or (late and killed):
                    return
                if late:
                    for kept in list(self.kept.values()):
                        await self._kill(kept)
                    killed = True
            except DriverFault as error:
                _log.warning("pool_not_stopped", pool=self.spec.name, error=str(error))
                return
            await asyncio.sleep(limits.POOL_LOOK_S / 4)


def _least_missed(kept: Kept) -> tuple[int, int, float]:
    """Sort first what does not serve yet, then what holds the least, then the youngest."""
    if kept.connected is None:
        return 0, 0, -kept.since
    return 1, kept.connected.in_flight, -kept.since
