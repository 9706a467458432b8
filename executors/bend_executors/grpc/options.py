"""What the operator sets for grpc: named connections with their trust, and bounds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bend.errors import ConfigurationError
from bend_executors.bounds import duration, positive
from bend_executors.configuration import Section
from bend_executors.reach import Allowance
from bend_executors.reach.settings import read_allowance

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """A service by name: workflows say `connection: NAME` and see none of this.

    `target` is host:port, reached wherever it is; `ca`, `certificate` and `key` are PEM or None
    (the system's roots, no client certificate); `metadata` goes with each call; `descriptor_set` is
    a serialized FileDescriptorSet or None (then the server's reflection is asked); `namespaces`
    may use it, all when empty.
    """

    name: str
    target: str
    tls: bool = True
    ca: bytes | None = None
    certificate: bytes | None = None
    key: bytes | None = None
    metadata: tuple[tuple[str, str], ...] = ()
    descriptor_set: bytes | None = None
    namespaces: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Bounds: sizes in bytes, times in seconds."""

    allow: Allowance = field(default_factory=lambda: Allowance(()))
    connections: Mapping[str, Connection] = field(default_factory=dict)
    request_bytes_max: int = 16 * MIB
    response_bytes_max: int = 16 * MIB
    channels_max: int = 64
    channel_s: float = 300.0


def read(environment: Mapping[str, str], section: Section) -> Options:
    """Read the section `grpc`. Raises ConfigurationError naming the key that is wrong."""
    usual = Options()
    found = {}
    for name, one in section.sections("connections"):
        found[name] = connection(name, one)
        one.done()
    return Options(
        allow=read_allowance(environment, section),
        connections=found,
        request_bytes_max=positive(section, "request_bytes_max", usual.request_bytes_max),
        response_bytes_max=positive(section, "response_bytes_max", usual.response_bytes_max),
        channels_max=positive(section, "channels_max", usual.channels_max),
        channel_s=duration(section, "channel_s", usual.channel_s),
    )


def connection(name: str, section: Section) -> Connection:
    """Read one connection."""
    metadata = section.section("metadata")
    pairs = tuple((key.lower(), metadata.take(key, str)) for key in metadata.keys())  # noqa: SIM118
    made = Connection(
        name=name,
        target=section.take("target", str),
        tls=section.take("tls", bool, True),
        ca=file(section, "ca_file"),
        certificate=file(section, "cert_file"),
        key=file(section, "key_file"),
        metadata=pairs,
        descriptor_set=file(section, "descriptor_set_file"),
        namespaces=frozenset(str(entry) for entry in section.take("namespaces", list, [])),
    )
    if (made.certificate is None) != (made.key is None):
        raise ConfigurationError(f"{section.place}: cert_file and key_file go together")
    if not made.tls and (made.ca or made.certificate):
        raise ConfigurationError(f"{section.place}: certificates are of no use without tls")
    return made


def file(section: Section, key: str) -> bytes | None:
    """Return the content of the file that a key names; None without the key."""
    path = section.take(key, str, "")
    if not path:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{section.place}.{key}: {error}") from error
