"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

PARTITIONS = 64
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _workflow() -> None:
    op.create_table(
        "workflow",
        sa.Column("namespace", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("description", TEXT, nullable=False),
        sa.Column("labels", sa.LargeBinary(), nullable=False),
        sa.Column("archived", sa.SmallInteger(), nullable=False),
        sa.Column("task_count", sa.Integer(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("updated_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("namespace", "name", name="pk_workflow"),
    )


def _workflow_revision() -> None:
    op.create_table(
        "workflow_revision",
        sa.Column("namespace", TEXT, nullable=False),
        sa.Column("workflow", TEXT, nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.Column("digest", TEXT, nullable=False),
        sa.Column("plan_format", sa.Integer(), nullable=False),
        sa.Column("pins", sa.LargeBinary(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("namespace", "workflow", "revision", name="pk_workflow_revision"),
    )


def _execution() -> None:
    op.create_table(
        "execution",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("public_id", TEXT, nullable=False),
        sa.Column("namespace", TEXT, nullable=False),
        sa.Column("workflow", TEXT, nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("partition", sa.SmallInteger(), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("concurrency_key", TEXT, nullable=True),
        sa.Column("parent", sa.BigInteger(), nullable=True),
        sa.Column("parent_task", sa.Integer(), nullable=True),
        sa.Column("root", sa.BigInteger(), nullable=True),
        sa.Column("rerun_of", sa.BigInteger(), nullable=True),
        sa.Column("request_id", TEXT, nullable=True),
        sa.Column("request_hash", sa.LargeBinary(), nullable=True),
        sa.Column("actor", TEXT, nullable=False),
        sa.Column("input", sa.LargeBinary(), nullable=False),
        sa.Column("labels", sa.LargeBinary(), nullable=False),
        sa.Column("trace", TEXT, nullable=False),
        sa.Column("started_us", sa.BigInteger(), nullable=False),
        sa.Column("deadline_us", sa.BigInteger(), nullable=False),
        sa.Column("first_run", sa.Integer(), nullable=False),
        sa.Column("first_status", sa.SmallInteger(), nullable=False),
        sa.Column("pause_reason", TEXT, nullable=True),
        sa.Column("parked", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("wake_at_us", sa.BigInteger(), nullable=True),
        sa.Column("finish_seq", sa.Integer(), nullable=True),
        sa.Column("output", sa.LargeBinary(), nullable=True),
        sa.Column("blob", TEXT, nullable=True),
        sa.Column("error", sa.LargeBinary(), nullable=True),
        sa.Column("finished_us", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_execution"),
        sa.UniqueConstraint("namespace", "public_id", name="uq_execution_namespace_public_id"),
    )


def _execution_indexes() -> None:
    op.create_index(
        "ix_execution_finished",
        "execution",
        ["finished_us"],
        sqlite_where=sa.text("finished_us IS NOT NULL"),
        postgresql_where=sa.text("finished_us IS NOT NULL"),
    )
    op.create_index("ix_execution_time", "execution", ["namespace", "started_us", "id"])
    op.create_index(
        "ix_execution_unfinished",
        "execution",
        ["partition", "id", "parked", "deadline_us"],
        sqlite_where=sa.text("status < 4"),
        postgresql_where=sa.text("status < 4"),
    )
    op.create_index(
        "ix_execution_wake",
        "execution",
        ["partition", "wake_at_us"],
        sqlite_where=sa.text("parked = 1"),
        postgresql_where=sa.text("parked = 1"),
    )
    op.create_index(
        "ix_execution_workflow",
        "execution",
        ["namespace", "workflow", "status", "started_us", "id"],
    )


def _task_result() -> None:
    op.create_table(
        "task_result",
        sa.Column("execution", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("task", sa.Integer(), nullable=False),
        sa.Column("item", sa.Integer(), nullable=False),
        sa.Column("try", sa.Integer(), nullable=False),
        sa.Column("iteration", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column("output", sa.LargeBinary(), nullable=True),
        sa.Column("blob", TEXT, nullable=True),
        sa.Column("error", sa.LargeBinary(), nullable=True),
        sa.Column("retry_at_us", sa.BigInteger(), nullable=True),
        sa.Column("worker", TEXT, nullable=False),
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("chunks", sa.Integer(), nullable=False),
        sa.Column("started_us", sa.BigInteger(), nullable=False),
        sa.Column("finished_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("execution", "task", "item", "try", name="pk_task_result"),
        sqlite_with_rowid=False,
    )


def _execution_event() -> None:
    op.create_table(
        "execution_event",
        sa.Column("execution", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("task", sa.Integer(), nullable=False),
        sa.Column("item", sa.Integer(), nullable=False),
        sa.Column("actor", TEXT, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("execution", "seq", name="pk_execution_event"),
        sqlite_with_rowid=False,
    )


def _label() -> None:
    op.create_table(
        "label",
        sa.Column("namespace", TEXT, nullable=False),
        sa.Column("key", TEXT, nullable=False),
        sa.Column("value", TEXT, nullable=False),
        sa.Column("execution", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("namespace", "key", "value", "execution", name="pk_label"),
        sqlite_with_rowid=False,
    )


def _request() -> None:
    op.create_table(
        "request",
        sa.Column("namespace", TEXT, nullable=False),
        sa.Column("request_id", TEXT, nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("execution", sa.BigInteger(), nullable=False),
        sa.Column("public_id", TEXT, nullable=False),
        sa.Column("expires_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("namespace", "request_id", name="pk_request"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_request_expires", "request", ["expires_us"])


def _tombstone() -> None:
    op.create_table(
        "tombstone",
        sa.Column("namespace", TEXT, nullable=False),
        sa.Column("public_id", TEXT, nullable=False),
        sa.Column("execution", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("namespace", "public_id", name="pk_tombstone"),
        sqlite_with_rowid=False,
    )


def _mailbox() -> None:
    op.create_table(
        "mailbox",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("partition", sa.SmallInteger(), nullable=False),
        sa.Column("dedupe_key", TEXT, nullable=False),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_mailbox"),
        sa.UniqueConstraint("dedupe_key", name="uq_mailbox_dedupe_key"),
    )
    op.create_index("ix_mailbox_partition", "mailbox", ["partition", "id"])


def _engine_lease() -> None:
    op.create_table(
        "engine_lease",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("engine", TEXT, nullable=False),
        sa.Column("slot", sa.SmallInteger(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("expires_us", sa.BigInteger(), nullable=False),
        sa.Column("gives", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_engine_lease"),
        sa.UniqueConstraint("slot", name="uq_engine_lease_slot"),
    )


def _partition() -> None:
    op.create_table(
        "partition",
        sa.Column("partition", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("lease", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("partition", name="pk_partition"),
    )


def _counter() -> None:
    op.create_table(
        "counter",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_counter"),
    )


def _component() -> None:
    op.create_table(
        "component",
        sa.Column("namespace", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("newest", TEXT, nullable=False),
        sa.Column("versions", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("namespace", "name", name="pk_component"),
    )


def _component_version() -> None:
    op.create_table(
        "component_version",
        sa.Column("namespace", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("version", TEXT, nullable=False),
        sa.Column("major", sa.Integer(), nullable=False),
        sa.Column("description", TEXT, nullable=False),
        sa.Column("contract", sa.LargeBinary(), nullable=False),
        sa.Column("input_schema", sa.LargeBinary(), nullable=False),
        sa.Column("output_schema", sa.LargeBinary(), nullable=False),
        sa.Column("long_running", sa.SmallInteger(), nullable=False),
        sa.Column("heartbeats", sa.SmallInteger(), nullable=False),
        sa.Column("deprecated", sa.SmallInteger(), nullable=False),
        sa.Column("digest", TEXT, nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("namespace", "name", "version", name="pk_component_version"),
    )


def upgrade() -> None:
    _workflow()
    _workflow_revision()
    _execution()
    _execution_indexes()
    _task_result()
    _execution_event()
    _label()
    _request()
    _tombstone()
    _mailbox()
    _engine_lease()
    _partition()
    _counter()
    _component()
    _component_version()
    numbers = sa.table("partition", sa.column("partition", sa.SmallInteger))
    op.bulk_insert(numbers, [{"partition": number} for number in range(PARTITIONS)])
    counters = sa.table("counter", sa.column("name", sa.Text), sa.column("value", sa.BigInteger))
    op.bulk_insert(counters, [{"name": "epoch", "value": 0}])
