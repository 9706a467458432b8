"""What the storage says about its own schema without asking Alembic."""

from bend_server.storage import schema


def test_head_is_the_newest_migration() -> None:
    """An ordinary start trusts this name and skips the migrations."""
    assert schema.head_revision() == schema.HEAD
