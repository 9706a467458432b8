"""Migrations: bring a database to this release's schema, or say why not."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text

from bend_server.storage.faults import SchemaTooNew

if TYPE_CHECKING:
    from alembic.config import Config

# The newest revision, so that an ordinary start need not import Alembic: that takes as long as
# everything else of it together. A test holds it equal to what the migrations say.
HEAD = "0002"
MIGRATIONS = Path(__file__).parent / "migrations"
_VERSION_TABLE = "alembic_version"


def configuration(migrations: Path) -> "Config":
    """Return Alembic's configuration, made in code: there is no ini file to find."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    return config


def current_revision(connection: Connection) -> str | None:
    """Return the revision a database is at; None when it is empty."""
    if not inspect(connection).has_table(_VERSION_TABLE):
        return None
    found = connection.execute(text(f"SELECT version_num FROM {_VERSION_TABLE}")).scalar()
    return None if found is None else str(found)


def head_revision(migrations: Path = MIGRATIONS) -> str:
    """Return the newest revision that this release knows."""
    from alembic.script import ScriptDirectory

    head = ScriptDirectory.from_config(configuration(migrations)).get_current_head()
    if head is None:
        raise RuntimeError("the package lacks its migrations")
    return head


def migrate(
    connection: Connection,
    before_upgrade: Callable[[str], None] | None = None,
    migrations: Path = MIGRATIONS,
) -> None:
    """Upgrade to the newest revision inside the connection's transaction.

    Args:
        connection: an open transaction that no other process shares.
        before_upgrade: called with the old revision before an existing schema changes; for a
            backup.
        migrations: the folder of the migrations.

    Raises:
        SchemaTooNew: the database is at a revision that this release does not know.
    """
    current = current_revision(connection)
    if current == HEAD and migrations == MIGRATIONS:
        return
    from alembic import command
    from alembic.script import ScriptDirectory

    config = configuration(migrations)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if current is not None and current not in known:
        raise SchemaTooNew(
            f"the database is at schema {current}, which this release does not know (it knows up "
            f"to {head_revision(migrations)}): start the newer release, or restore a backup"
        )
    if current == head_revision(migrations):
        return
    if current is not None and before_upgrade is not None:
        before_upgrade(current)
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
