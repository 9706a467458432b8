"""Circuit breakers, one for each namespace and host: a host that is down is left alone for a while.

    closed ── failures ≥ N and ≥ ratio of the window's calls ──▶ open
    open ── open_s over ──▶ half-open ── a probe succeeds ──▶ closed
                                └────── a probe fails ─────▶ open, for twice as long

A circuit belongs to one namespace, so that nobody can close a shared host to others with calls
that are made to fail. What counts as a failure: no connection, no answer in time, 502, 503, 504.
A 500 does not: it may be about one task's input.
"""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from bend import RetryableError
from bend_executors.http.options import BreakerOptions

log = logging.getLogger("bend.http")
CLOSED, OPEN, HALF_OPEN = "closed", "open", "half-open"


class Circuit:
    """The state of one host. `now` is monotonic seconds."""

    __slots__ = ("_began", "calls", "failures", "opened", "place", "probing", "state", "wait_s")

    def __init__(self, place: str) -> None:
        self.place = place
        self.state = CLOSED
        self.calls = 0
        self.failures = 0
        self.opened = 0.0
        self.wait_s = 0.0
        self.probing = 0
        self._began = 0.0

    def enter(self, options: BreakerOptions, now: float) -> None:
        """Let a call through or raise RetryableError CIRCUIT_OPEN with the time that is left."""
        if self.state == CLOSED:
            return
        left = self.opened + self.wait_s - now
        if self.state == OPEN and left <= 0:
            self._become(HALF_OPEN)
            self.probing = 0
        if self.state == HALF_OPEN and self.probing < options.probes:
            self.probing += 1
            return
        wait = max(left, 0.5)
        raise RetryableError(
            "CIRCUIT_OPEN",
            f"{self.place} failed {self.failures} times; it is left alone for {wait:.1f} s",
            retry_after=wait,
            details={"host": self.place, "state": self.state, "failures": self.failures},
        )

    def succeeded(self, options: BreakerOptions, now: float) -> None:
        """Count a call that was answered."""
        if self.state == HALF_OPEN:
            self._become(CLOSED)
            self.calls = self.failures = 0
            self.wait_s = 0.0
            self._began = now
        elif self.state == CLOSED:
            self._roll(options, now)
            self.calls += 1

    def failed(self, options: BreakerOptions, now: float) -> None:
        """Count a call that was not."""
        if self.state == OPEN:
            return
        if self.state == CLOSED:
            self._roll(options, now)
            self.calls += 1
            self.failures += 1
            if self.failures < options.failures or self.failures < options.ratio * self.calls:
                return
        self.wait_s = min(options.open_s_max, max(options.open_s, 2 * self.wait_s))
        self.opened = now
        self._become(OPEN)

    def left(self) -> None:
        """Give a probe back that ended without an answer to count: cancelled, or refused."""
        if self.state == HALF_OPEN:
            self.probing = max(0, self.probing - 1)

    def _roll(self, options: BreakerOptions, now: float) -> None:
        if now - self._began > options.window_s:
            self._began = now
            self.calls = self.failures = 0

    def _become(self, state: str) -> None:
        log.warning("circuit of %s: %s -> %s", self.place, self.state, state)
        self.state = state


class Breakers:
    """All circuits, bounded: the longest unused one is forgotten, closed ones first."""

    def __init__(
        self, options: BreakerOptions, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.options = options
        self.clock = clock
        self._circuits: OrderedDict[tuple[str, str], Circuit] = OrderedDict()

    def circuit(self, namespace: str, place: str) -> Circuit:
        """Return the circuit of a namespace's host (`host:port`)."""
        key = (namespace, place)
        found = self._circuits.get(key)
        if found is None:
            if len(self._circuits) >= self.options.hosts_max:
                self._forget()
            found = self._circuits[key] = Circuit(place)
        else:
            self._circuits.move_to_end(key)
        return found

    def _forget(self) -> None:
        for key, circuit in self._circuits.items():
            if circuit.state == CLOSED:
                del self._circuits[key]
                return
        self._circuits.popitem(last=False)

    def stats(self) -> dict[str, dict[str, Any]]:
        """Return the state of each circuit by `namespace host:port`."""
        return {
            f"{namespace} {place}": {
                "state": circuit.state,
                "calls": circuit.calls,
                "failures": circuit.failures,
            }
            for (namespace, place), circuit in self._circuits.items()
        }
