"""What the operator sets for http: the section `http` of the components' file."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bend_executors.bounds import duration, positive, share
from bend_executors.configuration import Section
from bend_executors.reach import Allowance
from bend_executors.reach.settings import read_allowance

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerOptions:
    """When a host's circuit opens and closes.

    It opens after `failures` failed calls within `window_s` when they are at least `ratio` of all
    calls in it, stays open for `open_s` (doubled after each failed probe, up to `open_s_max`), and
    then lets `probes` calls through at once. At most `hosts_max` circuits are remembered.
    """

    failures: int = 10
    ratio: float = 0.5
    window_s: float = 30.0
    open_s: float = 10.0
    open_s_max: float = 120.0
    probes: int = 1
    hosts_max: int = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Bounds and trust: sizes in bytes, times in seconds; `ca_file` is a PEM file or empty."""

    allow: Allowance = field(default_factory=lambda: Allowance(()))
    ca_file: str = ""
    connections_max: int = 512
    connections_per_host_max: int = 128
    idle_s: float = 30.0
    request_bytes_max: int = 50 * MIB
    response_bytes_max: int = 50 * MIB
    redirects_max: int = 5
    breaker: BreakerOptions = field(default_factory=BreakerOptions)


def read(environment: Mapping[str, str], section: Section) -> Options:
    """Read the section. Raises ConfigurationError naming the key that is wrong."""
    usual = Options()
    breaker = section.section("breaker")
    known = usual.breaker
    circuit = BreakerOptions(
        failures=positive(breaker, "failures", known.failures),
        ratio=share(breaker, "ratio", known.ratio),
        window_s=duration(breaker, "window_s", known.window_s),
        open_s=duration(breaker, "open_s", known.open_s),
        open_s_max=duration(breaker, "open_s_max", known.open_s_max),
        probes=positive(breaker, "probes", known.probes),
        hosts_max=positive(breaker, "hosts_max", known.hosts_max),
    )
    breaker.done()
    return Options(
        allow=read_allowance(environment, section),
        ca_file=section.take("ca_file", str, ""),
        connections_max=positive(section, "connections_max", usual.connections_max),
        connections_per_host_max=positive(
            section, "connections_per_host_max", usual.connections_per_host_max
        ),
        idle_s=duration(section, "idle_s", usual.idle_s),
        request_bytes_max=positive(section, "request_bytes_max", usual.request_bytes_max),
        response_bytes_max=positive(section, "response_bytes_max", usual.response_bytes_max),
        redirects_max=positive(section, "redirects_max", usual.redirects_max),
        breaker=circuit,
    )
