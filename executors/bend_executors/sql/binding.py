"""Parameters: bound by the driver, never written into the text."""

from collections.abc import Mapping
from typing import Any

from bend import TerminalError
from bend_executors.sql.connections import Dialect
from bend_executors.sql.guard import Slot, Statement

# PostgreSQL carries at most 32,767 in a statement, SQLite as many by default.
VALUES_MAX = 32_767


def bound(
    dialect: Dialect, statement: Statement, parameters: Mapping[str, Any]
) -> tuple[str, tuple[Any, ...]]:
    """Return (SQL with the driver's marks, values in their order).

    A list in `IN (:name)` becomes as many values. Raises TerminalError SQL_PARAMETER.
    """
    for name in parameters:
        if name not in statement.names:
            raise wrong(f"the query has no parameter :{name}")
    writer = _Writer(dialect)
    text = ""
    for part in statement.parts:
        if isinstance(part, str):
            text += part
        elif part.name not in parameters:
            raise wrong(f"the parameter :{part.name} is missing")
        else:
            text += writer.marks(part, parameters[part.name])
    if len(writer.values) > VALUES_MAX:
        raise wrong(f"{len(writer.values)} values are bound, at most {VALUES_MAX}")
    return text, tuple(writer.values)


def wrong(text: str) -> TerminalError:
    """Return the error for parameters that do not fit."""
    return TerminalError("SQL_PARAMETER", text)


class _Writer:
    def __init__(self, dialect: Dialect) -> None:
        self.values: list[Any] = []
        self._dialect = dialect
        self._places: dict[str, int] = {}

    def marks(self, slot: Slot, value: Any) -> str:
        if not slot.listed:
            return self._mark(slot.name, self._single(slot.name, value))
        if not isinstance(value, list):
            if slot.listed == 1:
                raise wrong(f":{slot.name}: a list is wanted after IN")
            return self._mark(slot.name, self._single(slot.name, value))
        if not value and self._dialect == "postgresql":
            raise wrong(f":{slot.name} is empty; `= ANY(:{slot.name})` takes empty lists, too")
        marks = ", ".join(self._mark("", self._single(slot.name, one)) for one in value)
        return f"({marks})" if slot.listed == 1 else marks

    def _mark(self, name: str, value: Any) -> str:
        if self._dialect == "sqlite":
            self.values.append(value)
            return "?"
        if not name or name not in self._places:
            self.values.append(value)
            self._places[name] = len(self.values)
        return f"${self._places[name]}"

    def _single(self, name: str, value: Any) -> Any:
        if self._dialect == "sqlite":
            if isinstance(value, (list, dict)):
                raise wrong(f":{name}: SQLite takes no lists (but in IN) and no objects")
            if isinstance(value, int) and not -(2**63) <= value < 2**63:
                raise wrong(f":{name}: the integer has more than 64 bits")
        return value
