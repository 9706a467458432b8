"""How a cluster is spoken to: TLS and SASL of the operator's file as settings of librdkafka.

What cannot work, or would send a password in the clear, is refused when the file is read.
"""

import ipaddress
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from bend.errors import ConfigurationError
from bend_executors.configuration import Section

PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
PASSWORD_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
TOKEN_MECHANISM = "OAUTHBEARER"  # noqa: S105 - a mechanism's name
FILES = {"ca": "ssl.ca.location", "certificate": "ssl.certificate.location"}
TOKEN_FIELDS = {
    "client_id": "sasl.oauthbearer.client.id",
    "client_secret": "sasl.oauthbearer.client.secret",
}


def read_security(section: Section, hosts: list[str]) -> dict[str, str]:
    """Return librdkafka's settings of a section `security`, for brokers on these hosts.

    Raises ConfigurationError, which names the place.
    """
    protocol = section.take("protocol", str, "SSL").upper()
    if protocol not in PROTOCOLS:
        refuse(section, "protocol", f"one of {', '.join(PROTOCOLS)} is wanted")
    allowed = section.take("plaintext_allowed", bool, False)
    if "PLAINTEXT" in protocol and not allowed and not all(map(is_loopback, hosts)):
        refuse(
            section,
            "protocol",
            f"{protocol} sends all in the clear; beyond loopback it needs plaintext_allowed: true",
        )
    found = {"security.protocol": protocol}
    if protocol.endswith("SSL"):
        found |= _tls(section)
    if protocol.startswith("SASL"):
        found |= _sasl(section)
    left = section.keys()
    if left:
        refuse(section, left[0], f"has no meaning with the protocol {protocol}")
    return found


def _tls(section: Section) -> dict[str, str]:
    found = {}
    for key, name in FILES.items():
        path = section.take(key, str, "")
        if path:
            found[name] = _file(section, key, path)
    key_file = section.take("key", str, "")
    if bool(key_file) != ("ssl.certificate.location" in found):
        refuse(section, "key", "a certificate and its key belong together")
    password = section.take("key_password", str, "")
    if key_file:
        found["ssl.key.location"] = _file(section, "key", key_file)
        if password:
            found["ssl.key.password"] = password
    elif password:
        refuse(section, "key_password", "there is no key")
    # librdkafka's own default, said here because it is what the rest relies on.
    found["ssl.endpoint.identification.algorithm"] = "https"
    return found


def _sasl(section: Section) -> dict[str, str]:
    mechanism = section.take("mechanism", str, "").upper()
    known = (*PASSWORD_MECHANISMS, TOKEN_MECHANISM)
    if mechanism not in known:
        refuse(section, "mechanism", f"one of {', '.join(known)} is wanted")
    found = {"sasl.mechanism": mechanism}
    if mechanism == TOKEN_MECHANISM:
        return found | _token(section.section("token"))
    for key, name in (("user", "sasl.username"), ("password", "sasl.password")):
        found[name] = section.take(key, str, "")
        if not found[name]:
            refuse(section, key, f"is missing; {mechanism} needs user and password")
    return found


def _token(section: Section) -> dict[str, str]:
    url = section.take("url", str, "")
    parts = urlsplit(url)
    host = parts.hostname or ""
    if not host or (parts.scheme != "https" and not is_loopback(host)):
        refuse(section, "url", "an https URL of the token endpoint is wanted")
    found = {"sasl.oauthbearer.method": "oidc", "sasl.oauthbearer.token.endpoint.url": url}
    for key, name in TOKEN_FIELDS.items():
        found[name] = section.take(key, str, "")
        if not found[name]:
            refuse(section, key, "is missing")
    scope = section.take("scope", str, "")
    if scope:
        found["sasl.oauthbearer.scope"] = scope
    section.done()
    return found


def _file(section: Section, key: str, path: str) -> str:
    if not Path(path).is_file():
        refuse(section, key, f"{path} is no file")
    return path


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def refuse(section: Section, key: str, wanted: str) -> NoReturn:
    """Raise ConfigurationError for a key."""
    raise ConfigurationError(f"{section.place}.{key}: {wanted}")
