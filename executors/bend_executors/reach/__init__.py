"""The guard that components share: which hosts and addresses a task may reach.

Workflows are written by many people and their URLs may come from data, so a component must not be
a way into the machine's own network. A name is resolved once, every address that came back is
checked, and exactly a checked one is dialled: a second look-up could answer otherwise.
"""

from bend_executors.reach.addresses import Allowance, embedded, is_public
from bend_executors.reach.guard import checked_addresses, dial
from bend_executors.reach.hosts import host_name

__all__ = ["Allowance", "checked_addresses", "dial", "embedded", "host_name", "is_public"]
