"""Where the mesh is and who we are: flags first, then BEND_ variables, then the local mesh.

`bend up` writes `$BEND_HOME/run/endpoints.json`, so that commands and workers on the same machine
need no settings at all.
"""

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import orjson

from bend.errors import ConfigurationError, Unreachable
from bend.platforms import require_platform

HOME_DEFAULT = ".bend"
ENDPOINTS_VERSION = 1
LOOPBACK = {"127.0.0.1", "localhost", "::1"}

# Every BEND_ variable that any part of Bend reads.
VARIABLES = {
    "BEND_HOME": "data folder, default ./.bend",
    "BEND_URL": "https://host:port of the gateway",
    "BEND_CA_FILE": "PEM file with the authority that signed the gateway's certificate",
    "BEND_CERT_FILE": "PEM file with the client certificate",
    "BEND_KEY_FILE": "PEM file with the client certificate's key",
    "BEND_TOKEN": "bearer token",
    "BEND_NAMESPACE": "namespace, when the identity holds several",
    "BEND_DATABASE_URL": "sqlite or postgresql+asyncpg URL of the engine",
    "BEND_NATS_URL": "tls://host:port of NATS",
    "BEND_HTTPS_PORT": "port of the gateway",
    "BEND_HTTP_PORT": "loopback port for plain HTTP",
    "BEND_MODEL_PATH": "folder of ONNX models",
    "BEND_BLOB_URL": "where large payloads live",
    "BEND_LOG_LEVEL": "debug, info, warning or error",
    "BEND_COMPONENTS_FILE": "settings of the built-in components, default components.yaml",
    "BEND_POOLS_FILE": "pools that the executor keeps, default pools.yaml",
    "BEND_LISTENERS_FILE": "component services that the executor dials, default listeners.yaml",
    "BEND_POOL_INSTANCE": "pool and instance; set by the executor that starts it",
    "BEND_SECRETS_DIR": "folder of files, each named by a secret",
    "BEND_BREAKING_CONTRACTS": "refuse or warn, when a release breaks its major's contract",
    "BEND_HTTP_ALLOW": "networks and hosts that the http and grpc components may call",
    "BEND_OTLP_ENDPOINT": "where traces and metrics go",
}
# BEND_SECRET_<NAME> is a secret of the executor's environment; the rest of the name is free.
FREE_PREFIXES = ("BEND_SECRET_",)


class Settings(NamedTuple):
    """How to reach the mesh.

    `url` is `https://host:port`, or `http://` on loopback; the files are PEM or None; `token` is
    sent as a bearer token when not empty.
    """

    url: str
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    token: str = ""
    namespace: str = ""

    @property
    def secure(self) -> bool:
        """Whether the link is TLS."""
        return self.url.startswith("https:")

    @property
    def target(self) -> str:
        """`host:port` as gRPC wants it."""
        parts = urlsplit(self.url)
        port = parts.port or (443 if self.secure else 80)
        host = parts.hostname or ""
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def metadata(self) -> list[tuple[str, str]]:
        """Return the gRPC metadata that every call carries."""
        items = []
        if self.token:
            items.append(("authorization", f"Bearer {self.token}"))
        if self.namespace:
            items.append(("bend-namespace", self.namespace))
        return items


def check_environment(environment: Mapping[str, str], known: Mapping[str, str] = VARIABLES) -> None:
    """Refuse BEND_ variables that nobody reads: a misspelt setting must not be ignored.

    Raises ConfigurationError with the nearest known name.
    """
    for name in environment:
        if name.startswith("BEND_") and not (name in known or name.startswith(FREE_PREFIXES)):
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
            raise ConfigurationError(
                f"unknown setting {name}; the nearest known one is {near[0]}",
                reason="UNKNOWN_SETTING",
                metadata={"name": name, "nearest": near[0]},
            )


def home_folder(environment: Mapping[str, str], home: str | Path | None = None) -> Path:
    """Return the data folder: flag, BEND_HOME, else ./.bend."""
    return Path(home or environment.get("BEND_HOME") or HOME_DEFAULT)


def read_endpoints(home: Path) -> dict[str, object]:
    """Read what the local mesh wrote about itself; {} when none runs on this home.

    Raises ConfigurationError for a file that is damaged or of another version.
    """
    path = home / "run" / "endpoints.json"
    try:
        found = orjson.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict) or found.get("version") != ENDPOINTS_VERSION:
        raise ConfigurationError(f"{path} is of another version; stop and start the mesh again")
    return found


def load_settings(
    *,
    url: str | None = None,
    ca_file: str | Path | None = None,
    cert_file: str | Path | None = None,
    key_file: str | Path | None = None,
    token: str | None = None,
    namespace: str | None = None,
    home: str | Path | None = None,
    environment: Mapping[str, str] | None = None,
    dials: bool = True,
) -> Settings:
    """Find out how to reach the mesh; each argument wins over its variable.

    Without `dials` a mesh need not be known: who listens only proves itself.

    Raises ConfigurationError when no mesh is known, a setting is unknown or wrong, or Bend does not
    run on this system; Unreachable when the one in the data folder is stopped.
    """
    require_platform()
    env = os.environ if environment is None else environment
    check_environment(env)
    folder = home_folder(env, home)
    address = url or env.get("BEND_URL") or ""
    local = read_endpoints(folder)
    urls = local.get("urls")
    if isinstance(urls, dict):
        address = address or str(urls.get("https") or "")
        if not same_place(address, [str(one) for one in urls.values()]):
            # Another mesh: the local one's certificates are not for it.
            local = {}
    if not address and dials:
        if (folder / "certs").is_dir():
            raise Unreachable(
                f"the mesh in {folder.absolute()} does not run: start it by `bend up`",
                reason="NO_MESH",
            )
        raise ConfigurationError(
            f"no mesh is known: set BEND_URL, or run `bend up` (looked in {folder.absolute()})",
            reason="NO_MESH",
        )

    def file(given: str | Path | None, name: str, key: str) -> Path | None:
        found = given or env.get(name) or local.get(key)
        if not found:
            return None
        path = Path(str(found)).expanduser()
        if not path.is_file():
            raise ConfigurationError(f"{name}: {path} is not a file", metadata={"name": name})
        return path

    settings = Settings(
        url=checked_url(address) if address else "",
        ca_file=file(ca_file, "BEND_CA_FILE", "ca_file"),
        cert_file=file(cert_file, "BEND_CERT_FILE", "cert_file"),
        key_file=file(key_file, "BEND_KEY_FILE", "key_file"),
        token=token if token is not None else env.get("BEND_TOKEN", ""),
        namespace=namespace if namespace is not None else env.get("BEND_NAMESPACE", ""),
    )
    if (settings.cert_file is None) != (settings.key_file is None):
        raise ConfigurationError("BEND_CERT_FILE and BEND_KEY_FILE belong together: one is missing")
    return settings


def same_place(address: str, urls: list[str]) -> bool:
    """Whether an address is one of the local mesh's, whatever loopback is called."""
    place = urlsplit(address)
    return any(
        place.port == urlsplit(one).port
        and (place.hostname == urlsplit(one).hostname or place.hostname in LOOPBACK)
        for one in urls
    )


def checked_url(address: str) -> str:
    """Return the address when it is one that we dial. Raises ConfigurationError otherwise."""
    parts = urlsplit(address)
    try:
        valid = parts.scheme in {"https", "http"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise ConfigurationError(f"BEND_URL {address!r} must look like https://host:port")
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise ConfigurationError(f"BEND_URL {address!r}: plain http is for loopback only")
    return f"{parts.scheme}://{parts.netloc}"
