"""Judging a service's first message."""

import re

from bend.v1 import executor_service_pb2 as pb
from bend_server.core.errors import InvalidInput, NotPermitted, WrongState
from bend_server.executor.options import PROTOCOL_VERSION
from bend_server.ports.links import LinkPeer

COMPONENTS_MAX = 256
CREDIT_MAX = 65_536
LABELS_MAX = 32
LABEL_CHARS_MAX = 255
SCHEMA_BYTES_MAX = 262_144
INSTANCE = re.compile(r"[!-~]{1,128}")
POOLED = re.compile(r"[a-z][a-z0-9-]{0,39}/[a-z0-9-]{1,80}")
NAME = re.compile(r"[a-z][a-z0-9_]{0,62}([.][a-z][a-z0-9_]{0,62}){0,3}")
VERSION = re.compile(r"(0|[1-9][0-9]{0,5})([.](0|[1-9][0-9]{0,5})){2}")


def admit(peer: LinkPeer, roles: tuple[str, ...]) -> None:
    """Check that an identity may serve components. Raises NotPermitted."""
    role, _, name = peer.subject.lstrip("/").partition("/")
    if role not in roles or (role == "component" and not name):
        raise NotPermitted(f"{peer.subject or 'nobody'} may not serve", subject=peer.subject)


def check(message: pb.ConnectRequest | None) -> pb.Hello:
    """Return the hello that a stream has to begin with.

    Raises:
        InvalidInput: PROTOCOL_VIOLATION: another message, or a field over its limit.
        WrongState: PROTOCOL_MISMATCH: another protocol version.
    """
    if message is None or message.WhichOneof("message") != "hello":
        raise _violation("message", "the first message has to be a hello")
    hello = message.hello
    if hello.protocol_version != PROTOCOL_VERSION:
        raise WrongState(
            f"protocol version {hello.protocol_version} is not supported",
            reason="PROTOCOL_MISMATCH",
            supported=PROTOCOL_VERSION,
            got=hello.protocol_version,
        )
    if not INSTANCE.fullmatch(hello.instance_id):
        raise _violation("instance_id", "the instance id is 1 to 128 printable ASCII characters")
    if not 1 <= hello.credit <= CREDIT_MAX:
        raise _violation("credit", f"credit is 1 to {CREDIT_MAX}")
    if not 1 <= len(hello.components) <= COMPONENTS_MAX:
        raise _violation("components", f"a service has 1 to {COMPONENTS_MAX} components")
    if len(hello.held) > CREDIT_MAX:
        raise _violation("held", f"at most {CREDIT_MAX} tasks can be held")
    if hello.pool_instance and not POOLED.fullmatch(hello.pool_instance):
        raise _violation("pool_instance", "it is <pool>/<instance>, small letters, digits, dashes")
    _check_contracts(hello)
    return hello


def _check_contracts(hello: pb.Hello) -> None:
    seen: dict[tuple[str, str], None] = {}
    for index, contract in enumerate(hello.components):
        place = f"components[{index}]"
        if not NAME.fullmatch(contract.name):
            raise _violation(f"{place}.name", f"{contract.name[:80]!r} is no component name")
        if not VERSION.fullmatch(contract.version):
            raise _violation(f"{place}.version", f"{contract.version[:40]!r} is no version")
        if len(contract.labels) > LABELS_MAX or any(
            len(key) > LABEL_CHARS_MAX or len(value) > LABEL_CHARS_MAX
            for key, value in contract.labels.items()
        ):
            raise _violation(f"{place}.labels", "too many labels, or too long ones")
        if max(len(contract.input_schema), len(contract.output_schema)) > SCHEMA_BYTES_MAX:
            raise _violation(f"{place}.input_schema", "a schema is at most 256 KiB")
        if (contract.name, contract.version) in seen:
            raise _violation(place, f"{contract.name} {contract.version} is there twice")
        seen[(contract.name, contract.version)] = None


def _violation(field: str, message: str) -> InvalidInput:
    return InvalidInput(message, reason="PROTOCOL_VIOLATION", field=field)
