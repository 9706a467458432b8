"""Runs migrations on the connection that `storage.schema` hands over."""

from alembic import context

from bend_server.storage.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
)
# The caller owns the transaction, so that a failed upgrade leaves nothing.
context.run_migrations()
