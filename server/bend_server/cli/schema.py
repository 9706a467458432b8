"""`bend schema`: the JSON Schema of workflow documents, for editors."""

import click
import orjson


@click.command()
def schema() -> None:
    """Print the JSON Schema of workflow documents, for editors."""
    # The compiler takes a moment to import; every other command would pay for it.
    from bend_server.language.schema_document import schema_document

    click.echo(orjson.dumps(schema_document(), option=orjson.OPT_INDENT_2))
