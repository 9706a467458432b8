"""The `python` component: scripts and functions, each in a sandbox of its own."""

from collections.abc import Mapping
from pathlib import Path

from bend.errors import ConfigurationError
from bend_executors.configuration import Section
from bend_executors.python.component import PythonComponent as PythonComponent
from bend_executors.python.modules import Modules as Modules
from bend_executors.sandbox import read_rules, read_size
from bend_executors.service import Service

__all__ = ["Modules", "PythonComponent", "service"]


def service(environment: Mapping[str, str], section: Section) -> Service:
    """Return what this folder serves. Raises ConfigurationError."""
    rules, size = read_rules(section), read_size(section)
    named = section.take("path", str, "")
    folder = Path(named or Path(environment.get("BEND_HOME") or ".bend") / "modules")
    if named and not folder.is_dir():
        raise ConfigurationError(f"{section.place}.path: there is no folder '{named}'")
    # Without a name the folder may still come: it is looked for with each task.
    made = PythonComponent(rules, size, Modules(folder))
    made.pool.announce()
    return Service([made.run], size.concurrent, made.pool.close)
