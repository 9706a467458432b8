"""All settings of the server processes: read once, from BEND_ variables, in the composition roots.

Flags of the command line win over variables. A misspelt variable is an error, never ignored.
"""

# ruff: noqa: RUF009 - `_setting` is dataclasses.field with our metadata

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bend.errors import ConfigurationError
from bend.platforms import require_platform
from bend.settings import check_environment

MASK = "***"
PORT_MAX = 65_535
LEVELS = ("debug", "info", "warning", "error")
DATABASES = ("sqlite", "postgresql+asyncpg")
QUEUES = ("tls", "nats")
_SECRET = frozenset(("token",))


class _Refused(ValueError):
    """A value is out of its bounds; the text says them."""


def _text(most: int = 65_536) -> Any:
    def parse(value: object) -> str:
        if len(str(value)) > most:
            raise _Refused(f"at most {most} characters")
        return str(value)

    return parse


def _path(value: object) -> Path:
    return Path(str(value))


def _port(least: int) -> Any:
    def parse(value: object) -> int:
        try:
            port = int(str(value))
        except ValueError:
            raise _Refused(f"not a number: {value!r}") from None
        if not least <= port <= PORT_MAX:
            raise _Refused(f"not between {least} and {PORT_MAX}: {port}")
        return port

    return parse


def _database(value: object) -> str:
    """Read a database's URL as far as it tells which database it is; the driver reads the rest."""
    text = str(value)
    scheme, found, place = text.partition("://")
    usable = found and place.strip("/") and scheme in DATABASES
    try:
        usable = usable and (scheme == "sqlite" or (urlsplit(text).port or 0) >= 0)
    except ValueError:
        usable = False
    if not usable:
        raise _Refused(f"not a database that Bend knows: {masked_url(text)!r}")
    return text


def _servers(value: object) -> str:
    """Read one or more addresses of NATS."""
    text = str(value)
    for one in text.split(","):
        try:
            parts = urlsplit(one.strip())
            usable = parts.scheme in QUEUES and parts.hostname and (parts.port or 0) >= 0
        except ValueError:
            usable = False
        if not usable:
            raise _Refused(f"not an address of NATS: {masked_url(one)!r}")
    return text


def _choice(*choices: str) -> Any:
    def parse(value: object) -> str:
        if value not in choices:
            raise _Refused(f"not one of {', '.join(choices)}: {value!r}")
        return str(value)

    return parse


def _setting(default: Any, parse: Any, description: str) -> Any:
    return dataclasses.field(default=default, metadata={"parse": parse, "description": description})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of one process; each description says unit, default and bounds.

    A plain dataclass: pydantic would add a quarter of a second to the start of every process.
    """

    home: Path = _setting(Path(".bend"), _path, "Data folder, mode 0700. Default: ./.bend.")
    url: str = _setting(
        "",
        _text(),
        "Gateway that commands and workers dial, https://host:port. Default: local.",
    )
    ca_file: Path | None = _setting(
        None, _path, "PEM of the authority. Default: $BEND_HOME/certs/ca.pem."
    )
    cert_file: Path | None = _setting(
        None, _path, "PEM of the client certificate. Default: the mesh's own for this role."
    )
    key_file: Path | None = _setting(None, _path, "PEM of its key; goes with BEND_CERT_FILE.")
    token: str = _setting("", _text(4096), "Bearer token of clients. Default: none.")
    namespace: str = _setting("", _text(), "Namespace of clients. Default: the identity's own.")
    database_url: str = _setting(
        "",
        _database,
        "postgresql+asyncpg://… or sqlite:///path. Default: $BEND_HOME/bend.db.",
    )
    nats_url: str = _setting(
        "", _servers, "tls://host:port of NATS, commas between several. Default: started here."
    )
    https_port: int | None = _setting(
        None,
        _port(1),
        "Port of the gateway's HTTPS door, 1 to 65535. Default: 8443 or the next free.",
    )
    http_port: int | None = _setting(
        None,
        _port(0),
        "Port of the plain-HTTP loopback door, 0 to 65535; 0: none. Default: 8080 or a free one.",
    )
    model_path: Path | None = _setting(
        None, _path, "Folder of ONNX models. Default: $BEND_HOME/models."
    )
    pools_file: Path | None = _setting(
        None, _path, "Pools that the executor keeps (YAML). Default: $BEND_HOME/pools.yaml."
    )
    listeners_file: Path | None = _setting(
        None,
        _path,
        "Component services that the executor dials (YAML). Default: $BEND_HOME/listeners.yaml.",
    )
    blob_url: str = _setting(
        "",
        _text(),
        "Where payloads over 64 KiB lie: a URL of obstore. Default: $BEND_HOME/blobs.",
    )
    log_level: str = _setting(
        "info",
        _choice(*LEVELS),
        "Least level that is logged: debug, info, warning, error. Default: info.",
    )
    components_file: Path | None = _setting(
        None, _path, "Settings of the built-in components. Default: $BEND_HOME/components.yaml."
    )
    secrets_dir: Path | None = _setting(
        None, _path, "Folder of files, each named by a secret. Default: none."
    )
    breaking_contracts: str = _setting(
        "refuse",
        _choice("refuse", "warn"),
        "What the registry does when a version from 1.0.0 on breaks what an older one of its "
        "major promised: refuse or warn. Default: refuse.",
    )
    http_allow: str = _setting(
        "",
        _text(),
        "Networks (CIDR) and hosts that the http component may call although they are private, "
        "commas between. Default: none.",
    )
    otlp_endpoint: str = _setting(
        "", _text(), "URL that takes OpenTelemetry traces and metrics. Default: none are sent."
    )

    @property
    def database(self) -> str:
        """The database's URL; SQLite in the data folder when none was given."""
        return self.database_url or f"sqlite:///{self.home / 'bend.db'}"

    @property
    def blobs(self) -> str:
        """The blob store's URL; a folder in the data folder when none was given."""
        return self.blob_url or (self.home / "blobs").as_uri()

    @property
    def pools(self) -> Path:
        """The executor's file of pools."""
        return self.pools_file or self.home / "pools.yaml"

    @property
    def listeners(self) -> Path:
        """The executor's file of component services that listen."""
        return self.listeners_file or self.home / "listeners.yaml"

    @property
    def certs(self) -> Path:
        """The certificates' folder."""
        return self.home / "certs"

    @property
    def token_file(self) -> Path:
        """The mesh's bearer token."""
        return self.certs / "token"

    @property
    def sqlite(self) -> bool:
        """Whether the database is SQLite: then one process owns it."""
        return self.database.startswith("sqlite")

    def masked(self) -> dict[str, str]:
        """Return what may be logged: secrets and passwords in URLs are hidden, unset left out."""
        shown = {}
        for name in FIELDS:
            value = getattr(self, name)
            text = "" if value is None else str(value)
            if text:
                shown[name] = MASK if name in _SECRET else masked_url(text)
        return shown


FIELDS = {field.name: field.metadata for field in dataclasses.fields(Settings)}
"""Name of each setting → its description and parser."""


def load(environment: Mapping[str, str] | None = None, **flags: Any) -> Settings:
    """Read the settings.

    Args:
        environment: variables; the process's own when left out.
        flags: settings given on the command line; None means not given.

    Raises:
        ConfigurationError: an unknown BEND_ name (with the nearest known one), or a value out
            of bounds (with the variable's name and its description), or a system on which Bend
            does not run.
    """
    require_platform()
    variables = os.environ if environment is None else environment
    check_environment(variables)
    given: dict[str, Any] = {}
    for name, about in FIELDS.items():
        value = flags.get(name)
        if value is None:
            value = variables.get(f"BEND_{name.upper()}") or None
        if value is None:
            continue
        try:
            given[name] = about["parse"](value)
        except _Refused as error:
            raise ConfigurationError(
                f"BEND_{name.upper()}: {error}. {about['description']}",
                reason="INVALID_SETTING",
                metadata={"name": f"BEND_{name.upper()}"},
            ) from error
    settings = Settings(**given)
    home = settings.home.expanduser().absolute()
    return dataclasses.replace(settings, home=home)


def masked_url(text: str) -> str:
    """Return a URL without its password and query; any other text as it is."""
    if "://" not in text:
        return text
    try:
        parts = urlsplit(text)
    except ValueError:
        return f"{text.partition('://')[0]}://{MASK}"
    place = parts.netloc
    if "@" in place:
        user, _, host = place.rpartition("@")
        place = f"{user.partition(':')[0]}:{MASK}@{host}"
    # Put together by hand: urlunsplit loses slashes of sqlite:////absolute/path.
    return f"{parts.scheme}://{place}{parts.path}{'?' + MASK if parts.query else ''}"
