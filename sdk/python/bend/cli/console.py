"""Where output goes: results on stdout, everything else on stderr; colour only where it helps."""

import json
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click
import orjson

if TYPE_CHECKING:
    from rich.table import Table

COLOURS = {
    "COMPLETED": "green",
    "RUNNING": "cyan",
    "SCHEDULED": "blue",
    "PENDING": "bright_black",
    "WAITING": "yellow",
    "PAUSED": "yellow",
    "FAILED": "red",
    "TIMED_OUT": "red",
    "CANCELLED": "magenta",
    "SKIPPED": "bright_black",
}
PLAIN_WIDTH = 160
WRAPPED_MIN = 20
GAP = 2


def note(text: str) -> None:
    """Tell people something that programs need not read."""
    click.echo(text, err=True)


def print_json(document: Any, *, pretty: bool | None = None) -> None:
    """Print one JSON document on stdout: indented on a terminal, else one line."""
    text = orjson.dumps(document).decode()
    if sys.stdout.isatty() if pretty is None else pretty:
        # The standard library's numbers have no size: integers keep their digits.
        text = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    click.echo(text)


def compact(data: bytes, width: int) -> str:
    """Return a payload in at most `width` characters of one line."""
    text = data.decode("utf-8", errors="replace").replace("\n", " ")
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"[:width]


def print_table(columns: Iterable[str], rows: Iterable[Iterable[str]], *, empty: str) -> None:
    """Print a table. On a terminal the widest column wraps; too narrow a one gets records.

    Args:
        columns: headings; a column named `status` is coloured.
        rows: cells as text.
        empty: said on stderr when there are no rows.
    """
    from rich.console import Console

    names = list(columns)
    lines = [list(row) for row in rows]
    if not lines:
        note(empty)
        return
    widths = [max(len(line[at]) for line in [names, *lines]) for at in range(len(names))]
    whole = sum(widths) + GAP * len(names)
    widest = widths.index(max(widths))
    if sys.stdout.isatty():
        console = Console()
        if console.width >= whole - max(0, widths[widest] - WRAPPED_MIN):
            console.print(_table(names, lines, widest))
        else:
            _print_records(names, lines)
        return
    # A pipe gets whole cells, however long: `cut` and `grep` read them.
    console = Console(width=max(PLAIN_WIDTH, whole), no_color=True, highlight=False)
    with console.capture() as capture:
        console.print(_table(names, lines, None))
    for text in capture.get().splitlines():
        click.echo(text.rstrip())


def _table(names: list[str], lines: list[list[str]], wraps: int | None) -> "Table":
    """Return a table in which one column at most may wrap."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, GAP, 0, 0))
    for at, name in enumerate(names):
        table.add_column(name, overflow="fold", no_wrap=at != wraps)
    for line in lines:
        table.add_row(
            *(
                Text(cell, style=COLOURS.get(cell, "") if name == "status" else "")
                for name, cell in zip(names, line, strict=True)
            )
        )
    return table


def _print_records(names: list[str], lines: list[list[str]]) -> None:
    """Print a line a cell: what names a row is copied, so it is never broken or cut."""
    width = max(map(len, names[1:]), default=0)
    for line in lines:
        click.secho(line[0], bold=True)
        for name, cell in zip(names[1:], line[1:], strict=True):
            if cell:
                shown = click.style(cell, fg=COLOURS.get(cell)) if name == "status" else cell
                click.echo(f"  {name:<{width}}  {shown}")


def counted(count: int, noun: str) -> str:
    """Return `1 task`, `2 tasks`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def age(when: datetime | None) -> str:
    """Return how long ago something was: `4s`, `12m`, `3h`, `5d`."""
    if when is None:
        return "-"
    return short_span((datetime.now(UTC) - when).total_seconds())


def short_span(seconds: float) -> str:
    """Return a span in at most four characters or so."""
    seconds = max(0.0, seconds)
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= size * 2:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s"


def took(milliseconds: float) -> str:
    """Return a duration: `12 ms`, `3.4 s`, `2m 05s`, `3h 12m`."""
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)}m {int(seconds % 60):02d}s"
    return f"{int(seconds // 3600)}h {int(seconds % 3600 // 60):02d}m"
