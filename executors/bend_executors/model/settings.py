"""What the operator allows the `model` component: the section `model` of components.yaml."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from bend.errors import ConfigurationError
from bend_executors.configuration import Section
from bend_executors.model.folder import NAME, SHA256, VERSION

THREADS_MAX = 64
BATCH_ROWS_MAX = 4096
# An ONNX file is one protobuf message, and those end at 2 GiB.
MODEL_BYTES_MAX = 2 * 1024**3
MEMORY_BYTES = 1024**3


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a version of a model comes from. `config` is what `model.json` would say."""

    url: str
    sha256: str
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """How models are fetched; times in seconds, `bytes_max` per file."""

    headers: Mapping[str, str] = field(default_factory=dict)
    bytes_max: int = MODEL_BYTES_MAX
    timeout_s: float = 300.0
    proxy: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The component's bounds.

    `threads` is how many threads one run uses inside an operation, `inter_threads` how many
    operations of one run go side by side, `runs` how many models run at the same time.
    `sources` maps (name, version) to where it is fetched from.
    """

    folder: Path
    memory_bytes: int = MEMORY_BYTES
    threads: int = 1
    inter_threads: int = 1
    runs: int = 2
    batch_max: int = 64
    run_s_max: float = 60.0
    warm_up: bool = True
    registry: Registry = field(default_factory=Registry)
    sources: Mapping[tuple[str, str], Source] = field(default_factory=dict)


def memory() -> int:
    """Return half of the memory that this process may have, in bytes; MEMORY_BYTES at least."""
    try:
        most = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return MEMORY_BYTES
    try:
        group = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    except OSError:
        group = "max"
    if group.isdigit():
        most = min(most, int(group))
    return max(MEMORY_BYTES, most // 2)


def bounded(section: Section, key: str, default: int, most: int) -> int:
    """Take a whole number from 1 to `most`. Raises ConfigurationError."""
    value = int(section.take(key, int, default))
    if not 1 <= value <= most:
        raise ConfigurationError(f"{section.place}.{key}: 1 to {most} is wanted, got {value}")
    return value


def positive(section: Section, key: str, default: float) -> float:
    """Take a number of seconds above 0. Raises ConfigurationError."""
    value = float(section.take(key, float, default))
    if not 0 < value <= 86_400:
        raise ConfigurationError(f"{section.place}.{key}: seconds above 0 are wanted, got {value}")
    return value


def read(section: Section, folder: Path) -> Settings:
    """Read the section. Raises ConfigurationError that names the key."""
    registry = section.section("registry")
    base = registry.take("url", str, "")
    headers = registry.section("headers")
    made = Registry(
        headers={key: headers.take(key, str) for key in headers.keys()},  # noqa: SIM118 - no dict
        bytes_max=bounded(registry, "bytes_max", MODEL_BYTES_MAX, MODEL_BYTES_MAX),
        timeout_s=positive(registry, "timeout_s", 300.0),
        proxy=registry.take("proxy", str, "") or None,
    )
    registry.done()
    threads = 2 if (os.cpu_count() or 1) >= 4 else 1
    return Settings(
        folder=Path(section.take("folder", str, str(folder))),
        memory_bytes=bounded(section, "memory_bytes", memory(), 2**50),
        threads=bounded(section, "threads", threads, THREADS_MAX),
        inter_threads=bounded(section, "inter_threads", 1, THREADS_MAX),
        runs=bounded(section, "runs", 2, THREADS_MAX),
        batch_max=bounded(section, "batch_max", 64, BATCH_ROWS_MAX),
        run_s_max=positive(section, "run_s_max", 60.0),
        warm_up=section.take("warm_up", bool, True),
        registry=made,
        sources=dict(source(name, entry, base) for name, entry in section.sections("models")),
    )


def source(key: str, section: Section, base: str) -> tuple[tuple[str, str], Source]:
    """Read one model of the registry; its key is `name` or `name@version`."""
    name, _, pinned = key.partition("@")
    version = str(section.take("version", (str, int, float), pinned or "1.0.0"))
    if not NAME.fullmatch(name) or not VERSION.fullmatch(version):
        raise ConfigurationError(f"{section.place}: {name}@{version} is no name of a model")
    url = urljoin(base, section.take("url", str))
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https", "file"} or (
        parts.scheme != "file" and not parts.netloc
    ):
        raise ConfigurationError(f"{section.place}.url: http, https or file is wanted, got {url!r}")
    digest = section.take("sha256", str).lower()
    if not SHA256.fullmatch(digest):
        raise ConfigurationError(f"{section.place}.sha256: 64 hexadecimal digits are wanted")
    config = section.take("config", dict, {})
    section.done()
    return (name, version), Source(url=url, sha256=digest, config=config)
