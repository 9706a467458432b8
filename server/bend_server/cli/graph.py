"""`bend graph`: a workflow's tasks and what depends on what, as text, Mermaid or SVG."""

import sys
from pathlib import Path

import click

from bend_server.core import limits
from bend_server.core.errors import InvalidDocument

INVALID = 3


@click.command()
@click.argument("file", metavar="FILE")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "mermaid", "svg"]),
    default="text",
    show_default=True,
    help="What to draw.",
)
def graph(file: str, form: str) -> None:
    """Draw the workflow in FILE; `-` reads standard input.

    Exit code 3 when the document is wrong, 2 when the file cannot be read.
    """
    try:
        if file == "-":
            data = sys.stdin.buffer.read(limits.DOCUMENT_BYTES_MAX + 1)
        else:
            with Path(file).open("rb") as source:
                data = source.read(limits.DOCUMENT_BYTES_MAX + 1)
    except OSError as error:
        raise click.UsageError(f"{file}: {error.strerror or error}") from error
    # The compiler takes a moment to import; every other command would pay for it.
    from bend_server.cli.graph_mermaid import draw_mermaid
    from bend_server.cli.graph_svg import draw_svg
    from bend_server.cli.graph_text import draw_text
    from bend_server.language import compile_document

    is_json = file.lower().endswith(".json")
    try:
        picture = compile_document(
            data, "application/json" if is_json else "application/yaml"
        ).picture()
    except InvalidDocument as error:
        for one in error.findings:
            click.echo(f"{file}:{one.line}:{one.column}: {one.reason}: {one.message}", err=True)
        sys.exit(INVALID)
    draw = {"text": draw_text, "mermaid": draw_mermaid, "svg": draw_svg}[form]
    click.echo(draw(picture), nl=False)
