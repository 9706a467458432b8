"""`python -m bend_executors`: serve the built-in components until SIGTERM."""

import importlib
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

from bend import Worker
from bend_executors import configuration

FOLDERS = ("http", "python", "grpc", "model", "sql", "kafka", "shell")
CREDIT = 512


def components(environment: Mapping[str, str]) -> list[Callable[..., Any]]:
    """Return what this environment serves: each folder has `components(environment, section)`.

    Raises ConfigurationError for a section that is wrong, or that no component reads.
    """
    found = configuration.load(environment)
    served: list[Callable[..., Any]] = []
    for folder in FOLDERS:
        section = found.section(folder)
        room = importlib.import_module(f"bend_executors.{folder}")
        served += room.components(environment, section)
        section.done()
    found.done(FOLDERS)
    return served


def main() -> None:
    """Connect with the settings of the environment and serve."""
    # Their lines a request cost time, and a URL may hold what nobody should read in a log.
    logging.getLogger("httpcore").setLevel(logging.WARNING)
    logging.getLogger("hpack").setLevel(logging.WARNING)
    Worker(components(os.environ), credit=CREDIT).run()


if __name__ == "__main__":
    main()
