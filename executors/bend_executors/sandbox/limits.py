"""What a sandbox may use and see: the operator's numbers and folders."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bend.errors import ConfigurationError
from bend_executors.configuration import Section

MEBIBYTE = 1024 * 1024
# Where the programs and libraries of a Linux system lie; those that exist are shown, read-only.
FOLDERS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64")
# Links to programs, and what the loader and the clock look up.
SYSTEM = (*FOLDERS, "/etc/alternatives", "/etc/ld.so.cache", "/etc/localtime")
# For programs that may use the network: names, certificates and their configuration.
NETWORK_FILES = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/ssl", "/etc/pki")
# Binding one of these would show what the sandbox exists to hide.
NEVER_SHOWN = ("/", "/proc", "/sys", "/dev", "/tmp", "/scratch", "/etc")  # noqa: S108 - names only


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one task. `memory_bytes` and `cpu_s` hold for each process of the
    sandbox, `total_bytes` for the memory of all together."""

    cpu_s: int = 60
    memory_bytes: int = 512 * MEBIBYTE
    total_bytes: int = 1024 * MEBIBYTE
    file_bytes: int = 64 * MEBIBYTE
    scratch_bytes: int = 64 * MEBIBYTE
    open_files: int = 256
    processes: int = 32

    @classmethod
    def read(cls, section: Section) -> "Limits":
        """Read the operator's numbers. Raises ConfigurationError."""

        def number(key: str, default: int, least: int, most: int) -> int:
            value: int = section.take(key, int, default)
            if not least <= value <= most:
                raise ConfigurationError(f"{section.place}.{key}: {least} to {most}")
            return value

        made = cls(
            cpu_s=number("cpu_s", 60, 1, 86_400),
            memory_bytes=number("memory_mb", 512, 32, 1 << 20) * MEBIBYTE,
            total_bytes=number("total_memory_mb", 1024, 32, 1 << 20) * MEBIBYTE,
            file_bytes=number("file_mb", 64, 1, 1 << 20) * MEBIBYTE,
            scratch_bytes=number("scratch_mb", 64, 1, 1 << 20) * MEBIBYTE,
            open_files=number("open_files", 256, 16, 1 << 16),
            processes=number("processes", 32, 1, 4096),
        )
        section.done()
        return made

    def resources(self) -> Mapping[str, int]:
        """Return what the kernel's rlimits bound."""
        return {
            "cpu_s": self.cpu_s,
            "memory_bytes": self.memory_bytes,
            "file_bytes": self.file_bytes,
            "open_files": self.open_files,
            "processes": self.processes,
        }


@dataclass(frozen=True, slots=True)
class Rules:
    """All that holds for the sandboxes of one component."""

    limits: Limits = field(default_factory=Limits)
    interpreter: str = ""
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    preload: tuple[str, ...] = ()
    network: bool = False
    isolation: str = "auto"

    def python(self) -> str:
        """Return the interpreter that runs inside: the real file behind the links."""
        chosen = self.interpreter or getattr(sys, "_base_executable", "") or sys.executable
        return os.path.realpath(chosen)

    def shown(self) -> list[str]:
        """Return what is shown read-only, each at its own place."""
        program = Path(self.python())
        prefix = str(program.parent.parent) if program.parent.name == "bin" else str(program)
        wanted = [*SYSTEM, *(NETWORK_FILES if self.network else ()), *self.read, *self.packages]
        found = [place for place in wanted if os.path.lexists(place)]
        if not any(prefix == place or prefix.startswith(f"{place}/") for place in found):
            found.append(prefix)
        return list(dict.fromkeys(found))


def read_rules(section: Section) -> Rules:
    """Read what both components share: `limits`, `isolation`, `read`, `write`, `network`, ….

    Raises ConfigurationError.
    """
    isolation = section.take("isolation", str, "auto")
    if isolation not in ("auto", "bubblewrap", "namespaces", "none"):
        raise ConfigurationError(
            f"{section.place}.isolation: auto, bubblewrap, namespaces or none, is '{isolation}'"
        )
    return Rules(
        limits=Limits.read(section.section("limits")),
        interpreter=section.take("interpreter", str, ""),
        read=places(section, "read"),
        write=places(section, "write"),
        packages=places(section, "packages"),
        preload=texts(section, "preload"),
        network=section.take("network", bool, False),
        isolation=isolation,
    )


def texts(section: Section, key: str) -> tuple[str, ...]:
    """Read a list of texts. Raises ConfigurationError."""
    values = section.take(key, list, [])
    if not all(isinstance(value, str) and value and "\0" not in value for value in values):
        raise ConfigurationError(f"{section.place}.{key}: a list of texts is wanted")
    return tuple(values)


def places(section: Section, key: str) -> tuple[str, ...]:
    """Read a list of absolute places that exist, behind links. Raises ConfigurationError."""
    found = []
    for value in texts(section, key):
        real = os.path.realpath(value)
        if not os.path.isabs(value) or not os.path.exists(real):
            raise ConfigurationError(f"{section.place}.{key}: '{value}' is no absolute place here")
        if real in NEVER_SHOWN:
            raise ConfigurationError(f"{section.place}.{key}: '{value}' is never shown")
        found.append(real)
    return tuple(found)
