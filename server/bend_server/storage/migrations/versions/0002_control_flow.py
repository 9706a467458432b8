"""Control flow: approvals, cache, bulk jobs, concurrency keys; weights and pools."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _execution_indexes() -> None:
    keyed = sa.text("concurrency_key IS NOT NULL AND status < 4")
    op.create_index(
        "ix_execution_concurrency",
        "execution",
        ["namespace", "workflow", "concurrency_key", "status", "priority", "id"],
        sqlite_where=keyed,
        postgresql_where=keyed,
    )
    for column in ("parent", "root"):
        known = sa.text(f"{column} IS NOT NULL")
        op.create_index(
            f"ix_execution_{column}",
            "execution",
            [column, "id"],
            sqlite_where=known,
            postgresql_where=known,
        )


def _approval() -> None:
    op.create_table(
        "approval",
        sa.Column("execution", sa.BigInteger(), nullable=False),
        sa.Column("task", sa.Integer(), nullable=False),
        sa.Column("item", sa.Integer(), nullable=False),
        sa.Column("try", sa.Integer(), nullable=False),
        sa.Column("namespace", TEXT, nullable=False),
        sa.Column("public_id", TEXT, nullable=False),
        sa.Column("workflow", TEXT, nullable=False),
        sa.Column("task_id", TEXT, nullable=False),
        sa.Column("title", TEXT, nullable=False),
        sa.Column("assignees", sa.LargeBinary(), nullable=False),
        sa.Column("form", sa.LargeBinary(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("expires_us", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=False, server_default=sa.text("1")),
        sa.Column("decided_by", TEXT, nullable=False, server_default=sa.text("''")),
        sa.Column("decided_us", sa.BigInteger()),
        sa.Column("comment", TEXT, nullable=False, server_default=sa.text("''")),
        sa.PrimaryKeyConstraint("execution", "task", "item", "try", name="pk_approval"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_approval_status",
        "approval",
        ["namespace", "status", "created_us", "execution", "task", "item"],
    )


def _cache_entry() -> None:
    op.create_table(
        "cache_entry",
        sa.Column("namespace", TEXT, nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("output", sa.LargeBinary()),
        sa.Column("blob", TEXT),
        sa.Column("execution", sa.BigInteger(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("expires_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("namespace", "key", name="pk_cache_entry"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_cache_entry_expires", "cache_entry", ["expires_us"])


def _bulk() -> None:
    op.create_table(
        "bulk",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("namespace", TEXT, nullable=False),
        sa.Column("partition", sa.SmallInteger(), nullable=False),
        sa.Column("action", sa.SmallInteger(), nullable=False),
        sa.Column("filter", sa.LargeBinary(), nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("actor", TEXT, nullable=False),
        sa.Column("dry_run", sa.SmallInteger(), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("matched", sa.BigInteger(), nullable=False),
        sa.Column("done", sa.BigInteger(), nullable=False),
        sa.Column("refused", sa.BigInteger(), nullable=False),
        sa.Column("cursor", sa.LargeBinary(), nullable=False),
        sa.Column("sample", sa.LargeBinary(), nullable=False),
        sa.Column("request_id", TEXT),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("updated_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_bulk"),
        sa.UniqueConstraint("namespace", "request_id", name="uq_bulk_namespace_request_id"),
    )
    running = sa.text("state = 1")
    op.create_index(
        "ix_bulk_open",
        "bulk",
        ["partition", "id"],
        sqlite_where=running,
        postgresql_where=running,
    )


def _component_weight() -> None:
    op.create_table(
        "component_weight",
        sa.Column("namespace", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("version", TEXT, nullable=False),
        sa.Column("weight", sa.Integer(), nullable=False),
        sa.Column("updated_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("namespace", "name", "version", name="pk_component_weight"),
    )


def _pool() -> None:
    op.create_table(
        "pool",
        sa.Column("namespace", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("spec", sa.LargeBinary(), nullable=False),
        sa.Column("updated_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("namespace", "name", name="pk_pool"),
    )


def upgrade() -> None:
    _execution_indexes()
    _approval()
    _cache_entry()
    _bulk()
    _component_weight()
    _pool()
