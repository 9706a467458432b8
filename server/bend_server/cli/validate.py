"""`bend validate`: what the server would say about a document, offline (all but contracts)."""

import sys
from pathlib import Path

import click
import orjson

from bend_server.cli.source import INVALID, SUFFIXES, read_source, shown
from bend_server.core.errors import Finding


@click.command(short_help="Check workflow documents without a server.")
@click.argument("files", nargs=-1, required=True, metavar="FILE|FOLDER...")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def validate(files: tuple[str, ...], as_json: bool) -> None:
    """Check workflow documents without a server; `-` reads standard input.

    Of a folder, every .yaml, .yml and .json file below it. Prints FILE:LINE:COLUMN: REASON: TEXT
    for each finding. Exit code 3 when there is one, 2 when a file cannot be read or a folder has
    none.
    """
    names = [name for given in files for name in _files(given)]
    found = [(name, finding) for name in names for finding in _check(name)]
    if as_json:
        rows = [{"file": name, **finding._asdict()} for name, finding in found]
        document = {"valid": not found, "findings": rows}
        click.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    else:
        for name, finding in found:
            click.echo(shown(name, finding))
        if not found:
            click.echo(f"{len(names)} valid", err=True)
    if found:
        sys.exit(INVALID)


def _files(given: str) -> list[str]:
    """Return the files that an argument stands for, in order."""
    folder = Path(given)
    if not folder.is_dir():
        return [given]
    names = sorted(str(path) for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not names:
        raise click.UsageError(f"{given}: no .yaml, .yml or .json file in this folder")
    return names


def _check(name: str) -> list[Finding]:
    source = read_source(name)
    # The compiler takes a moment to import; every other command would pay for it.
    from bend_server.language import findings_of

    return findings_of(source.data, source.content_type)
