"""What the operator opens: BEND_HTTP_ALLOW, and a section's keys `allow` and `hosts`."""

from collections.abc import Mapping

from bend.errors import ConfigurationError
from bend_executors.configuration import Section
from bend_executors.reach.addresses import Allowance


def read_allowance(environment: Mapping[str, str], section: Section) -> Allowance:
    """Read what a component may reach beside the public internet.

    `allow` is a list of networks and host names, `hosts` a map of names to fixed addresses.

    Raises ConfigurationError for an address that is none.
    """
    entries = environment.get("BEND_HTTP_ALLOW", "").split(",")
    entries += [str(entry) for entry in section.take("allow", list, [])]
    fixed = {str(name): str(address) for name, address in section.take("hosts", dict, {}).items()}
    try:
        return Allowance(entries, fixed)
    except ValueError as error:
        raise ConfigurationError(f"{section.place}.hosts: {error}") from None
