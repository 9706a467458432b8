"""Where Bend runs: systems, processors and versions of Python (docs/operations.md)."""

import platform
import sys

from bend.errors import ConfigurationError

SYSTEMS = {"Linux": "Linux", "Darwin": "macOS"}
PROCESSORS = {"x86_64", "amd64", "arm64", "aarch64"}
PYTHON_FIRST, PYTHON_LAST = (3, 11), (3, 13)


def require_platform() -> None:
    """Refuse a system that Bend was not made for, before it fails in a way that nobody understands.

    Raises ConfigurationError with reason UNSUPPORTED_PLATFORM and what was found: `system`,
    `machine`, `python`.
    """
    system, machine = platform.system(), platform.machine()
    python = platform.python_version()
    if system not in SYSTEMS or machine.lower() not in PROCESSORS:
        wrong = f"Linux and macOS, x86-64 and arm64; this is {system} on {machine}"
    elif not PYTHON_FIRST <= sys.version_info[:2] <= PYTHON_LAST:
        wrong = f"Python {_dotted(PYTHON_FIRST)} to {_dotted(PYTHON_LAST)}; this is {python}"
    else:
        return
    raise ConfigurationError(
        f"Bend runs on {wrong}",
        reason="UNSUPPORTED_PLATFORM",
        metadata={"system": system, "machine": machine, "python": python},
    )


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
