"""The schema: SQLAlchemy Core tables. A fresh database equals a migrated one (tests/storage).

Columns that a row type of `core.model` has stand first and in its order, so that the hot statements
bind its tuples as they are. Times are Unix microseconds, UTC; payloads are opaque JSON bytes.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)

# SQLite makes only an INTEGER primary key the row's own number.
_Id = BigInteger().with_variant(Integer, "sqlite")
# Order by code point on every database; a locale's order would skip punctuation.
_Text = Text().with_variant(Text(collation="C"), "postgresql")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

workflow = Table(
    "workflow",
    metadata,
    Column("namespace", _Text, nullable=False),
    Column("name", _Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("description", _Text, nullable=False),
    Column("labels", LargeBinary, nullable=False),
    Column("archived", SmallInteger, nullable=False),
    Column("task_count", Integer, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
    PrimaryKeyConstraint("namespace", "name"),
)

workflow_revision = Table(
    "workflow_revision",
    metadata,
    Column("namespace", _Text, nullable=False),
    Column("workflow", _Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("document", LargeBinary, nullable=False),
    Column("digest", _Text, nullable=False),
    Column("plan_format", Integer, nullable=False),
    Column("pins", LargeBinary, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    PrimaryKeyConstraint("namespace", "workflow", "revision"),
)

execution = Table(
    "execution",
    metadata,
    # StartRow; `run` and `status` are the current ones, `first_*` what the start wrote.
    Column("id", _Id, primary_key=True, autoincrement=False),
    Column("public_id", _Text, nullable=False),
    Column("namespace", _Text, nullable=False),
    Column("workflow", _Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("partition", SmallInteger, nullable=False),
    Column("run", Integer, nullable=False),
    Column("status", SmallInteger, nullable=False),
    Column("priority", SmallInteger, nullable=False),
    Column("concurrency_key", _Text),
    Column("parent", BigInteger),
    Column("parent_task", Integer),
    Column("root", BigInteger),
    Column("rerun_of", BigInteger),
    Column("request_id", _Text),
    Column("request_hash", LargeBinary),
    Column("actor", _Text, nullable=False),
    Column("input", LargeBinary, nullable=False),
    Column("labels", LargeBinary, nullable=False),
    Column("trace", _Text, nullable=False),
    Column("started_us", BigInteger, nullable=False),
    Column("deadline_us", BigInteger, nullable=False),
    Column("first_run", Integer, nullable=False),
    Column("first_status", SmallInteger, nullable=False),
    # What changes later.
    Column("pause_reason", _Text),
    Column("parked", SmallInteger, nullable=False, server_default=text("0")),
    Column("wake_at_us", BigInteger),
    # FinishRow of the current run.
    Column("finish_seq", Integer),
    Column("output", LargeBinary),
    Column("blob", _Text),
    Column("error", LargeBinary),
    Column("finished_us", BigInteger),
    UniqueConstraint("namespace", "public_id"),
    Index("ix_execution_time", "namespace", "started_us", "id"),
    Index("ix_execution_workflow", "namespace", "workflow", "status", "started_us", "id"),
    # Covers recovery and the sweeper, so that parked executions cost no row read. Queries must
    # name the same literal condition, or the planners do not use it.
    Index(
        "ix_execution_unfinished",
        "partition",
        "id",
        "parked",
        "deadline_us",
        sqlite_where=text("status < 4"),
        postgresql_where=text("status < 4"),
    ),
    Index(
        "ix_execution_wake",
        "partition",
        "wake_at_us",
        sqlite_where=text("parked = 1"),
        postgresql_where=text("parked = 1"),
    ),
    # Who runs and who queues under one concurrency key.
    Index(
        "ix_execution_concurrency",
        "namespace",
        "workflow",
        "concurrency_key",
        "status",
        "priority",
        "id",
        sqlite_where=text("concurrency_key IS NOT NULL AND status < 4"),
        postgresql_where=text("concurrency_key IS NOT NULL AND status < 4"),
    ),
    Index(
        "ix_execution_parent",
        "parent",
        "id",
        sqlite_where=text("parent IS NOT NULL"),
        postgresql_where=text("parent IS NOT NULL"),
    ),
    Index(
        "ix_execution_root",
        "root",
        "id",
        sqlite_where=text("root IS NOT NULL"),
        postgresql_where=text("root IS NOT NULL"),
    ),
    Index(
        "ix_execution_finished",
        "finished_us",
        sqlite_where=text("finished_us IS NOT NULL"),
        postgresql_where=text("finished_us IS NOT NULL"),
    ),
)

task_result = Table(
    "task_result",
    metadata,
    Column("execution", BigInteger, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("run", Integer, nullable=False),
    Column("task", Integer, nullable=False),
    Column("item", Integer, nullable=False),
    Column("try", Integer, nullable=False),
    Column("iteration", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("status", SmallInteger, nullable=False),
    Column("output", LargeBinary),
    Column("blob", _Text),
    Column("error", LargeBinary),
    Column("retry_at_us", BigInteger),
    Column("worker", _Text, nullable=False),
    Column("run_id", BigInteger, nullable=False),
    Column("chunks", Integer, nullable=False),
    Column("started_us", BigInteger, nullable=False),
    Column("finished_us", BigInteger, nullable=False),
    PrimaryKeyConstraint("execution", "task", "item", "try"),
    sqlite_with_rowid=False,
)

execution_event = Table(
    "execution_event",
    metadata,
    Column("execution", BigInteger, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("run", Integer, nullable=False),
    Column("kind", SmallInteger, nullable=False),
    Column("task", Integer, nullable=False),
    Column("item", Integer, nullable=False),
    Column("actor", _Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    PrimaryKeyConstraint("execution", "seq"),
    sqlite_with_rowid=False,
)

# `status` as bend.v1.Approval.Status; ApprovalRow stands first.
approval = Table(
    "approval",
    metadata,
    Column("execution", BigInteger, nullable=False),
    Column("task", Integer, nullable=False),
    Column("item", Integer, nullable=False),
    Column("try", Integer, nullable=False),
    Column("namespace", _Text, nullable=False),
    Column("public_id", _Text, nullable=False),
    Column("workflow", _Text, nullable=False),
    Column("task_id", _Text, nullable=False),
    Column("title", _Text, nullable=False),
    Column("assignees", LargeBinary, nullable=False),
    Column("form", LargeBinary, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger, nullable=False),
    Column("status", SmallInteger, nullable=False, server_default=text("1")),
    Column("decided_by", _Text, nullable=False, server_default=text("''")),
    Column("decided_us", BigInteger),
    Column("comment", _Text, nullable=False, server_default=text("''")),
    PrimaryKeyConstraint("execution", "task", "item", "try"),
    Index("ix_approval_status", "namespace", "status", "created_us", "execution", "task", "item"),
    sqlite_with_rowid=False,
)

cache_entry = Table(
    "cache_entry",
    metadata,
    Column("namespace", _Text, nullable=False),
    Column("key", LargeBinary, nullable=False),
    Column("output", LargeBinary),
    Column("blob", _Text),
    Column("execution", BigInteger, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger, nullable=False),
    PrimaryKeyConstraint("namespace", "key"),
    Index("ix_cache_entry_expires", "expires_us"),
    sqlite_with_rowid=False,
)

# A durable job over many executions; the owner of its partition works on it.
bulk = Table(
    "bulk",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=False),
    Column("namespace", _Text, nullable=False),
    Column("partition", SmallInteger, nullable=False),
    Column("action", SmallInteger, nullable=False),
    Column("filter", LargeBinary, nullable=False),
    Column("reason", _Text, nullable=False),
    Column("actor", _Text, nullable=False),
    Column("dry_run", SmallInteger, nullable=False),
    Column("state", SmallInteger, nullable=False),
    Column("matched", BigInteger, nullable=False),
    Column("done", BigInteger, nullable=False),
    Column("refused", BigInteger, nullable=False),
    Column("cursor", LargeBinary, nullable=False),
    Column("sample", LargeBinary, nullable=False),
    Column("request_id", _Text),
    Column("created_us", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
    UniqueConstraint("namespace", "request_id"),
    Index(
        "ix_bulk_open",
        "partition",
        "id",
        sqlite_where=text("state = 1"),
        postgresql_where=text("state = 1"),
    ),
)

label = Table(
    "label",
    metadata,
    Column("namespace", _Text, nullable=False),
    Column("key", _Text, nullable=False),
    Column("value", _Text, nullable=False),
    Column("execution", BigInteger, nullable=False),
    PrimaryKeyConstraint("namespace", "key", "value", "execution"),
    sqlite_with_rowid=False,
)

request = Table(
    "request",
    metadata,
    Column("namespace", _Text, nullable=False),
    Column("request_id", _Text, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("execution", BigInteger, nullable=False),
    Column("public_id", _Text, nullable=False),
    Column("expires_us", BigInteger, nullable=False),
    PrimaryKeyConstraint("namespace", "request_id"),
    Index("ix_request_expires", "expires_us"),
    sqlite_with_rowid=False,
)

# Chosen execution ids stay taken after retention has deleted the execution.
tombstone = Table(
    "tombstone",
    metadata,
    Column("namespace", _Text, nullable=False),
    Column("public_id", _Text, nullable=False),
    Column("execution", BigInteger, nullable=False),
    PrimaryKeyConstraint("namespace", "public_id"),
    sqlite_with_rowid=False,
)

mailbox = Table(
    "mailbox",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("partition", SmallInteger, nullable=False),
    Column("dedupe_key", _Text, nullable=False),
    Column("kind", SmallInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
    UniqueConstraint("dedupe_key"),
    Index("ix_mailbox_partition", "partition", "id"),
)

# `gives` counts hand-overs: a commit that began before one sees another number and writes nothing.
engine_lease = Table(
    "engine_lease",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=False),
    Column("engine", _Text, nullable=False),
    Column("slot", SmallInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("expires_us", BigInteger, nullable=False),
    Column("gives", Integer, nullable=False),
    UniqueConstraint("slot"),
)

partition = Table(
    "partition",
    metadata,
    Column("partition", SmallInteger, primary_key=True, autoincrement=False),
    Column("lease", BigInteger),
)

# One row, `epoch`: the largest epoch ever given; locking it serializes changes of ownership.
counter = Table(
    "counter",
    metadata,
    Column("name", _Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
)

component = Table(
    "component",
    metadata,
    Column("namespace", _Text, nullable=False),
    Column("name", _Text, nullable=False),
    Column("newest", _Text, nullable=False),
    Column("versions", Integer, nullable=False),
    PrimaryKeyConstraint("namespace", "name"),
)

component_version = Table(
    "component_version",
    metadata,
    Column("namespace", _Text, nullable=False),
    Column("name", _Text, nullable=False),
    Column("version", _Text, nullable=False),
    Column("major", Integer, nullable=False),
    Column("description", _Text, nullable=False),
    Column("contract", LargeBinary, nullable=False),
    Column("input_schema", LargeBinary, nullable=False),
    Column("output_schema", LargeBinary, nullable=False),
    Column("long_running", SmallInteger, nullable=False),
    Column("heartbeats", SmallInteger, nullable=False),
    Column("deprecated", SmallInteger, nullable=False),
    Column("digest", _Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    PrimaryKeyConstraint("namespace", "name", "version"),
)

# Which part of the new tries of a component goes to a version; no rows: the newest takes all.
component_weight = Table(
    "component_weight",
    metadata,
    Column("namespace", _Text, nullable=False),
    Column("name", _Text, nullable=False),
    Column("version", _Text, nullable=False),
    Column("weight", Integer, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
    PrimaryKeyConstraint("namespace", "name", "version"),
)

# Pools that were described by API; those of the configuration are not stored.
pool = Table(
    "pool",
    metadata,
    Column("namespace", _Text, nullable=False),
    Column("name", _Text, nullable=False),
    Column("spec", LargeBinary, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
    PrimaryKeyConstraint("namespace", "name"),
)
