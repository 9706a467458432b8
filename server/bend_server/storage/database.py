"""What the shared SQL stores need of a database: reads and writes of short functions."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import orjson
from sqlalchemy import BigInteger, ColumnElement, Connection, Text, any_, bindparam, func, select
from sqlalchemy.dialects.postgresql import ARRAY

T = TypeVar("T")

READ_S = 30.0
WRITE_S = 30.0


class Database(Protocol):
    """Runs functions over a SQLAlchemy connection, each in one transaction.

    Both raise DependencyDown when the database cannot be reached or takes too long, and let the
    function's own domain errors pass; a write that raised has written nothing, unless it was
    DependencyDown (outcome unknown).
    """

    kind: str

    async def read(self, work: Callable[[Connection], T], timeout_s: float = READ_S) -> T:
        """Run a function that only reads, all its queries on one snapshot."""
        ...

    async def query(self, work: Callable[[Connection], T], timeout_s: float = READ_S) -> T:
        """Run a function that makes a single query, without a transaction around it."""
        ...

    async def write(self, work: Callable[[Connection], T], timeout_s: float = WRITE_S) -> T:
        """Run a function that writes, in one transaction."""
        ...

    def time_us(self, connection: Connection) -> int:
        """Return the database's clock, Unix microseconds."""
        ...


def among(column: ColumnElement[Any], kind: str) -> ColumnElement[bool]:
    """Return `column in :ids` with one parameter, whatever their number; `listed` gives it."""
    if kind == "sqlite":
        rows = func.json_each(bindparam("ids", type_=Text)).table_valued("value")
        return column.in_(select(rows.c.value))
    return column == any_(bindparam("ids", type_=ARRAY(BigInteger)))


def listed(ids: Sequence[int], kind: str) -> dict[str, object]:
    """Return the parameter of `among`."""
    return {"ids": orjson.dumps(list(ids)).decode() if kind == "sqlite" else list(ids)}
