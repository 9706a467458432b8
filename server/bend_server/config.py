"""All settings of the server processes: read once, from BEND_ variables, in the composition roots.

Flags of the command line win over variables. A misspelt variable is an error, never ignored.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bend.errors import ConfigurationError
from bend.settings import check_environment

MASK = "***"
_SECRET = frozenset(("token",))


class Settings(BaseModel):
    """Settings of one process; each description says unit, default and bounds."""

    model_config = ConfigDict(frozen=True)

    home: Path = Field(
        Path(".bend"), description="Data folder. Default ./.bend; made with mode 0700."
    )
    url: str = Field(
        "", description="Gateway that commands and workers dial, https://host:port. Default: local."
    )
    ca_file: Path | None = Field(
        None, description="PEM of the authority. Default: $BEND_HOME/certs/ca.pem."
    )
    cert_file: Path | None = Field(
        None, description="PEM of the client certificate. Default: the mesh's own for this role."
    )
    key_file: Path | None = Field(None, description="PEM of its key; goes with BEND_CERT_FILE.")
    token: str = Field("", description="Bearer token of clients. Default: none.", max_length=4096)
    namespace: str = Field("", description="Namespace of clients. Default: the identity's own.")
    database_url: str = Field(
        "",
        description="postgresql+asyncpg://… or sqlite:///path. Default: $BEND_HOME/bend.db.",
    )
    nats_url: str = Field(
        "", description="tls://host:port of NATS, commas between several. Default: started here."
    )
    https_port: int | None = Field(
        None,
        description="Port of the gateway's HTTPS door, 1 to 65535. Default: 8443 or the next free.",
        ge=1,
        le=65535,
    )
    http_port: int | None = Field(
        None,
        description="Port of the plain-HTTP loopback door, 1 to 65535; 0: none. Default: 8080 or "
        "the next free.",
        ge=0,
        le=65535,
    )
    model_path: Path | None = Field(
        None, description="Folder of ONNX models. Default: $BEND_HOME/models."
    )
    blob_url: str = Field(
        "",
        description="Where payloads over 64 KiB lie: a URL of obstore. Default: $BEND_HOME/blobs.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least level that is logged. Default: info."
    )
    http_allow: str = Field(
        "",
        description="Networks (CIDR) and hosts that the http component may call although they are "
        "private, commas between. Default: none.",
        max_length=65536,
    )
    otlp_endpoint: str = Field(
        "", description="URL that takes OpenTelemetry traces and metrics. Default: none are sent."
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
        for name, value in self.model_dump(exclude_none=True).items():
            text = str(value)
            if text:
                shown[name] = MASK if name in _SECRET else masked_url(text)
        return shown


def load(environment: Mapping[str, str] | None = None, **flags: Any) -> Settings:
    """Read the settings.

    Args:
        environment: variables; the process's own when left out.
        flags: settings given on the command line; None means not given.

    Raises:
        ConfigurationError: an unknown BEND_ name (with the nearest known one), or a value out
            of bounds (with the variable's name and its description).
    """
    variables = os.environ if environment is None else environment
    check_environment(variables)
    given = {
        name: variables[f"BEND_{name.upper()}"]
        for name in Settings.model_fields
        if variables.get(f"BEND_{name.upper()}")
    }
    given |= {name: value for name, value in flags.items() if value is not None}
    try:
        settings = Settings.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else ""
        field = Settings.model_fields.get(name)
        raise ConfigurationError(
            f"BEND_{name.upper()}: {first['msg']}. {field.description if field else ''}".strip(),
            reason="INVALID_SETTING",
            metadata={"name": f"BEND_{name.upper()}"},
        ) from error
    home = settings.home.expanduser().absolute()
    return settings.model_copy(update={"home": home})


def masked_url(text: str) -> str:
    """Return a URL without its password and query; any other text as it is."""
    if "://" not in text:
        return text
    parts = urlsplit(text)
    place = parts.netloc
    if "@" in place:
        user, _, host = place.rpartition("@")
        place = f"{user.partition(':')[0]}:{MASK}@{host}"
    return urlunsplit((parts.scheme, place, parts.path, MASK if parts.query else "", ""))
