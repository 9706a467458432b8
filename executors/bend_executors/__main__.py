"""`python -m bend_executors`: serve the built-in components until SIGTERM."""

import importlib
import logging
import os
from collections.abc import Mapping

from bend import Worker
from bend_executors import configuration
from bend_executors.service import Service

FOLDERS = ("http", "python", "grpc", "model", "sql", "kafka", "shell")


def services(environment: Mapping[str, str]) -> list[Service]:
    """Return what this environment serves: each folder has `service(environment, section)`.

    Raises ConfigurationError for a section that is wrong, or that no component reads.
    """
    found = configuration.load(environment)
    served: list[Service] = []
    for folder in FOLDERS:
        section = found.section(folder)
        room = importlib.import_module(f"bend_executors.{folder}")
        served.append(room.service(environment, section))
        section.done()
    found.done(FOLDERS)
    return [service for service in served if service.functions]


def main() -> None:
    """Connect with the settings of the environment and serve.

    Each component has a stream and credit of its own: scripts that wait for a sandbox, or queries
    for a slow database, hold nothing that requests need.
    """
    # Their lines a request cost time, and a URL may hold what nobody should read in a log.
    logging.getLogger("httpcore").setLevel(logging.WARNING)
    logging.getLogger("hpack").setLevel(logging.WARNING)
    Worker.run_all(
        Worker(service.functions, credit=service.credit, on_stop=service.close)
        for service in services(os.environ)
    )


if __name__ == "__main__":
    main()
