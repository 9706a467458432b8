"""Addresses: which are on the public internet, and what an operator opened beside them."""

import ipaddress
from collections.abc import Iterable, Mapping

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
TEREDO = ipaddress.IPv6Network("2001::/32")
# Parts of the registries of special addresses that some Python releases take for global ones.
SPECIAL = tuple(
    ipaddress.ip_network(text)
    for text in (
        "64:ff9b:1::/48",
        "100::/64",
        "2001:db8::/32",
        "3fff::/20",
        "5f00::/16",
        "192.0.0.0/24",
        "192.88.99.0/24",
    )
)
# Where clouds answer a machine's own secrets: AWS and most others, ECS, Azure, Alibaba, Oracle.
METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254",
        "169.254.170.2",
        "168.63.129.16",
        "100.100.100.200",
        "192.0.0.192",
        "fd00:ec2::254",
    )
)
ISATAP = (0x00005EFE, 0x02005EFE)


class Allowance:
    """Hosts and networks that are open although the guard would refuse them.

    Args:
        entries: networks, and names of hosts.
        fixed: addresses of hosts that no resolver is asked for; naming one opens it.

    Raises ValueError for a fixed address that is none.
    """

    def __init__(self, entries: Iterable[str], fixed: Mapping[str, str] | None = None) -> None:
        self.fixed = {
            name.strip().lower().rstrip("."): str(ipaddress.ip_address(address))
            for name, address in (fixed or {}).items()
        }
        self.hosts: set[str] = set()
        self.networks: list[Network] = []
        for entry in entries:
            text = entry.strip().lower()
            if not text:
                continue
            try:
                self.networks.append(ipaddress.ip_network(text, strict=False))
            except ValueError:
                self.hosts.add(text.rstrip("."))

    @classmethod
    def from_text(cls, text: str) -> "Allowance":
        """Read the form of BEND_HTTP_ALLOW: networks and host names, separated by commas."""
        return cls(text.split(","))

    def fixed_address(self, host: str) -> str | None:
        """Return the address that the operator gave a host, or None."""
        return self.fixed.get(host.lower().rstrip(".")) if self.fixed else None

    def covers(self, host: str, address: Address) -> bool:
        """Tell whether an entry opens this host or this address.

        A host's entry never opens a metadata address: whoever answers for the name could point it
        there. Only a network does.
        """
        if embedded(address) not in METADATA and host.lower().rstrip(".") in self.hosts:
            return True
        return any(
            address in network for network in self.networks if network.version == address.version
        )


def embedded(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address carries, else the address itself.

    Mapped, 6to4, Teredo, ISATAP and NAT64 addresses all reach an IPv4 host.
    """
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in TEREDO and address.teredo is not None:
        return address.teredo[1]
    if address in NAT64 or (int(address) >> 32) & 0xFFFFFFFF in ISATAP:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def is_public(address: Address) -> bool:
    """Tell whether an address is on the public internet: not private, loopback, metadata, …"""
    if any(address in network for network in SPECIAL if network.version == address.version):
        return False
    real = embedded(address)
    if real in METADATA or (isinstance(real, ipaddress.IPv6Address) and real.is_site_local):
        return False
    if real is not address and not is_public(real):
        return False
    return real.is_global and not real.is_multicast and not real.is_reserved
