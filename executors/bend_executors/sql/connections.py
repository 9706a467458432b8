"""What the operator says about each database: a URL that no workflow sees, and the limits."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NoReturn
from urllib.parse import unquote

from bend.errors import ConfigurationError
from bend_executors.configuration import Section

Dialect = Literal["postgresql", "sqlite"]

SCHEMES: Mapping[str, Dialect] = {
    "postgres": "postgresql",
    "postgresql": "postgresql",
    "postgresql+asyncpg": "postgresql",
    "sqlite": "sqlite",
    "sqlite+aiosqlite": "sqlite",
}
EVERYWHERE = "*"
POOL = 4
POOL_MAX = 64
ROWS_MAX = 10_000
BYTES_MAX = 4 * 1024 * 1024
# A task's output may have 50 MiB; rows live in memory several times on their way there.
BYTES_CEILING = 32 * 1024 * 1024
STATEMENT_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Connection:
    """One named database.

    Attributes:
        url: for PostgreSQL `postgresql+asyncpg://…`; empty for SQLite.
        file: SQLite's file; None for PostgreSQL.
        namespaces: whose workflows may use it; `*` is everybody.
        pool: open connections at most, for reading and for writing each.
        ca_file: PostgreSQL's certificate must be signed by one of these; empty: the URL decides.
    """

    name: str
    dialect: Dialect
    url: str = field(default="", repr=False)
    file: Path | None = None
    namespaces: frozenset[str] = frozenset(("default",))
    writable: bool = False
    pool: int = POOL
    rows_max: int = ROWS_MAX
    bytes_max: int = BYTES_MAX
    statement_timeout_s: float = STATEMENT_TIMEOUT_S
    ca_file: str = ""

    def open_to(self, namespace: str) -> bool:
        """Tell whether workflows of a namespace may use it."""
        return EVERYWHERE in self.namespaces or namespace in self.namespaces


def read_connections(environment: Mapping[str, str], section: Section) -> dict[str, Connection]:
    """Read `connections: {name: {url: …}}`.

    Raises ConfigurationError, which names the place and never shows the URL.
    """
    home = Path(environment.get("BEND_HOME") or ".bend")
    found: dict[str, Connection] = {}
    for name, one in section.sections("connections"):
        found[name] = _connection(name, one, home)
        one.done()
    return found


def _connection(name: str, section: Section, home: Path) -> Connection:
    scheme, separator, rest = section.take("url", str).partition("://")
    dialect = SCHEMES.get(scheme.lower())
    if not separator or dialect is None:
        _refuse(section, "url", "postgresql://… or sqlite:///FILE is wanted")
    ca_file = section.take("ca", str, "")
    file, url = None, ""
    if dialect == "sqlite":
        file = _file(section, rest, home)
        if ca_file:
            _refuse(section, "ca", "a file of SQLite has no certificate")
    else:
        url = f"postgresql+asyncpg://{rest}"
        if ca_file and not Path(ca_file).is_file():
            _refuse(section, "ca", f"{ca_file} is no file")
    return Connection(
        name=name,
        dialect=dialect,
        url=url,
        file=file,
        namespaces=_names(section),
        writable=section.take("writable", bool, False),
        pool=_bounded(section, "pool", POOL, POOL_MAX),
        rows_max=_bounded(section, "rows_max", ROWS_MAX, 1_000_000),
        bytes_max=_bounded(section, "bytes_max", BYTES_MAX, BYTES_CEILING),
        statement_timeout_s=_seconds(section),
        ca_file=ca_file,
    )


def _file(section: Section, rest: str, home: Path) -> Path:
    text = unquote(rest)
    if not text.startswith("/") or "?" in rest or text in ("/", "/:memory:"):
        _refuse(section, "url", "sqlite:///FILE is wanted, a file that stays")
    return home / text[1:]


def _names(section: Section) -> frozenset[str]:
    names = section.take("namespaces", list, ["default"])
    if not names or not all(isinstance(name, str) and name for name in names):
        _refuse(section, "namespaces", "a list of names is wanted, or ['*']")
    return frozenset(names)


def _bounded(section: Section, key: str, default: int, most: int) -> int:
    value: int = section.take(key, int, default)
    if not 1 <= value <= most:
        _refuse(section, key, f"1 to {most} is wanted")
    return value


def _seconds(section: Section) -> float:
    value: float = section.take("statement_timeout", float, STATEMENT_TIMEOUT_S)
    if not 0 < value <= 86_400:
        _refuse(section, "statement_timeout", "seconds are wanted, more than 0")
    return value


def _refuse(section: Section, key: str, wanted: str) -> NoReturn:
    raise ConfigurationError(f"{section.place}.{key}: {wanted}")
