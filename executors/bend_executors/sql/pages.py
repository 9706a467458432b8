"""Rows on their way out: counted against the limits, gathered into pages for those who watch."""

from typing import Any, TypedDict

from bend import TerminalError, payloads
from bend_executors.sql.connections import Connection
from bend_executors.sql.values import plain

PAGE_ROWS_MAX = 500
# A partial output may have 256 KiB; the page's own words need some of it.
PAGE_BYTES_MAX = 192 * 1024
COLUMNS_MAX = 1_600


class Page(TypedDict):
    """A partial output: some rows, `first` the number of its first row, from 0."""

    columns: list[str]
    first: int
    rows: list[dict[str, Any]]


class Answer(TypedDict):
    """The output. `row_count` is what was returned, or changed when no row was returned."""

    columns: list[str]
    rows: list[dict[str, Any]]
    row_count: int | None
    truncated: bool


class Rows:
    """Gathers rows; `full` once a limit was hit and the caller wants the rows before it."""

    def __init__(self, columns: list[str], settings: Connection, *, truncate: bool) -> None:
        if len(set(columns)) != len(columns) or len(columns) > COLUMNS_MAX:
            twice = next((name for name in columns if columns.count(name) > 1), "")
            raise TerminalError(
                "SQL_COLUMNS", f"two columns are named '{twice}': name them with AS"
            )
        self.columns = columns
        self.rows: list[dict[str, Any]] = []
        self.full = False
        self._settings = settings
        self._truncate = truncate
        self._size = 0
        self._page: list[dict[str, Any]] = []
        self._page_size = 0
        self._first = 0
        self._streaming = False

    def add(self, row: Any) -> Page | None:
        """Take a row; return the page that it closes, if it does.

        Raises TerminalError SQL_TOO_MANY_ROWS or SQL_TOO_MANY_BYTES over a limit, unless the caller
        wants the rows before it.
        """
        record = dict(zip(self.columns, map(plain, row), strict=True))
        size = len(payloads.dumps(record)) + 1
        settings = self._settings
        if len(self.rows) >= settings.rows_max:
            self._over("SQL_TOO_MANY_ROWS", f"rows_max of {settings.rows_max} rows")
            return None
        if self._size + size > settings.bytes_max:
            self._over("SQL_TOO_MANY_BYTES", f"bytes_max of {settings.bytes_max} bytes")
            return None
        page = None
        if len(self._page) >= PAGE_ROWS_MAX or self._page_size + size > PAGE_BYTES_MAX:
            page = self._turn()
        self.rows.append(record)
        self._size += size
        self._page.append(record)
        self._page_size += size
        return page

    def last_page(self) -> Page | None:
        """Return the rows that no page had; None when there were no pages: one needs none."""
        return self._turn() if self._streaming else None

    def answer(self, changed: int | None) -> Answer:
        """Return the output; `changed`: rows that a statement without rows changed."""
        return {
            "columns": self.columns,
            "rows": self.rows,
            "row_count": len(self.rows) if self.columns else changed,
            "truncated": self.full,
        }

    def _over(self, reason: str, limit: str) -> None:
        if not self._truncate:
            raise TerminalError(reason, f"the result is over the connection's {limit}")
        self.full = True

    def _turn(self) -> Page | None:
        page: Page = {"columns": self.columns, "first": self._first, "rows": self._page}
        # One row may be larger than a partial output; it is in the output only.
        sendable = bool(self._page) and self._page_size <= PAGE_BYTES_MAX
        self._streaming = True
        self._first += len(self._page)
        self._page = []
        self._page_size = 0
        return page if sendable else None
