"""Migrations: bring a database to this release's schema, or say why not."""

from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from bend_server.storage.faults import SchemaTooNew


def configuration() -> Config:
    """Return Alembic's configuration, made in code: there is no ini file to find."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def current_revision(connection: Connection) -> str | None:
    """Return the revision a database is at; None when it is empty."""
    return MigrationContext.configure(connection).get_current_revision()


def head_revision() -> str:
    """Return the newest revision that this release knows."""
    head = ScriptDirectory.from_config(configuration()).get_current_head()
    if head is None:
        raise RuntimeError("the package lacks its migrations")
    return head


def migrate(connection: Connection, before_upgrade: Callable[[str], None] | None = None) -> None:
    """Upgrade to the newest revision inside the connection's transaction.

    Args:
        connection: an open transaction that no other process shares.
        before_upgrade: called with the old revision before an existing schema changes; for a
            backup.

    Raises:
        SchemaTooNew: the database is at a revision that this release does not know.
    """
    config = configuration()
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    current = current_revision(connection)
    if current is not None and current not in known:
        raise SchemaTooNew(
            f"the database is at schema {current}, which this release does not know (it knows up "
            f"to {head_revision()}): start the newer release, or restore a backup"
        )
    if current == head_revision():
        return
    if current is not None and before_upgrade is not None:
        before_upgrade(current)
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
