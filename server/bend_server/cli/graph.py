"""`bend graph`: a workflow's tasks and what depends on what, as text, Mermaid or SVG."""

import sys

import click

from bend_server.cli.source import INVALID, read_source, shown
from bend_server.core.errors import InvalidDocument


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
    source = read_source(file)
    # The compiler takes a moment to import; every other command would pay for it.
    from bend_server.cli.graph_mermaid import draw_mermaid
    from bend_server.cli.graph_svg import draw_svg
    from bend_server.cli.graph_text import draw_text
    from bend_server.language import compile_document

    try:
        picture = compile_document(source.data, source.content_type).picture()
    except InvalidDocument as error:
        for one in error.findings:
            click.echo(shown(file, one), err=True)
        sys.exit(INVALID)
    draw = {"text": draw_text, "mermaid": draw_mermaid, "svg": draw_svg}[form]
    click.echo(draw(picture), nl=False)
