"""The `shell` component: commands of the operator's list; off until the operator enables it."""

from collections.abc import Mapping

from bend.errors import ConfigurationError
from bend_executors.configuration import Section
from bend_executors.sandbox import read_rules, read_size
from bend_executors.service import Service
from bend_executors.shell.commands import read_commands
from bend_executors.shell.component import ShellComponent as ShellComponent

__all__ = ["ShellComponent", "service"]


def service(_environment: Mapping[str, str], section: Section) -> Service:
    """Return what this folder serves: nothing when it is off. Raises ConfigurationError."""
    enabled = section.take("enabled", bool, False)
    rules, size = read_rules(section), read_size(section)
    commands = read_commands(section)
    if not enabled:
        return Service([], size.concurrent)
    if not commands:
        raise ConfigurationError(f"{section.place}: it is enabled but has no commands")
    made = ShellComponent(commands, rules, size)
    made.pool.announce()
    return Service([made.run], size.concurrent, made.pool.close)
