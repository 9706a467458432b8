"""Host names as tasks write them, brought to the one form that is checked and dialled."""

import ipaddress
import re

from bend import TerminalError

NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}([.][a-z0-9_-]{1,63})*")
# The last label of what a resolver would read as a number: decimal, octal or hexadecimal.
NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


def host_name(text: str) -> str:
    """Return a host in the form that is resolved: lower case, IDNA, an IPv6 address bare.

    An IPv4 address in any notation but four decimal numbers is refused: resolvers disagree on what
    `0177.1` or `0x7f000001` means, so a check of one reading proves nothing about the other.

    Raises TerminalError: ADDRESS_REFUSED for such notations and zones, INVALID_INPUT for no name.
    """
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
        if ":" not in text:
            raise TerminalError("INVALID_INPUT", f"host {text[:100]!r} is no IPv6 address")
    if ":" in text:
        return _ipv6(text)
    name = text.lower().removesuffix(".")
    if not name.isascii():
        import idna

        try:
            name = idna.encode(name, uts46=True).decode()
        except idna.IDNAError as error:
            raise TerminalError("INVALID_INPUT", f"host {text[:100]!r}: {error}") from None
    if not NAME.fullmatch(name):
        raise TerminalError("INVALID_INPUT", f"host {text[:100]!r} is no host name")
    if NUMBER.fullmatch(name.rpartition(".")[2]):
        try:
            return str(ipaddress.IPv4Address(name))
        except ValueError:
            raise TerminalError(
                "ADDRESS_REFUSED",
                f"{text[:100]}: an IPv4 address must be written as four decimal numbers",
                details={"host": text[:100]},
            ) from None
    return name


def _ipv6(text: str) -> str:
    if "%" in text:
        raise TerminalError("ADDRESS_REFUSED", f"{text[:100]}: a zone is not reachable")
    try:
        return str(ipaddress.IPv6Address(text))
    except ValueError:
        raise TerminalError("INVALID_INPUT", f"host {text[:100]!r} is no IPv6 address") from None
