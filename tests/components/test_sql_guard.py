"""Queries that would write, or reach beyond the tables, against the parser's half of the guard."""

import pytest

from bend import TerminalError
from bend_executors.sql.binding import bound
from bend_executors.sql.connections import Dialect
from bend_executors.sql.guard import Mode, checked

BOTH: tuple[Dialect, ...] = ("postgresql", "sqlite")

# Each is refused in mode read, whatever the reason's name is.
WRITES = [
    "INSERT INTO t VALUES (1)",
    "UPDATE t SET a = 1",
    "DELETE FROM t",
    "REPLACE INTO t VALUES (1)",
    "MERGE INTO t USING s ON t.a = s.a WHEN MATCHED THEN DELETE",
    "WITH gone AS (DELETE FROM t RETURNING *) SELECT * FROM gone",
    "WITH a AS (SELECT 1), b AS (INSERT INTO t SELECT * FROM a RETURNING 1) SELECT * FROM b",
    "SELECT * FROM (WITH x AS (UPDATE t SET a = 1 RETURNING *) SELECT * FROM x) y",
    "SELECT * INTO copy_of FROM t",
    "SELECT * FROM t FOR UPDATE",
    "SELECT * FROM (SELECT * FROM t FOR SHARE) x",
    "CREATE TABLE x AS SELECT * FROM t",
    "DROP TABLE t",
    "TRUNCATE t",
    "ALTER TABLE t ADD b int",
    "VACUUM",
    "GRANT ALL ON t TO public",
]
STATEMENTS = [
    "SELECT 1; DELETE FROM t",
    "SELECT 1; SELECT 2",
    "SELECT 1;;DELETE FROM t;",
    "; DELETE FROM t",
    "BEGIN",
    "COMMIT",
    "SET TRANSACTION READ WRITE",
    "SET default_transaction_read_only = off",
    "RESET ALL",
    "EXPLAIN ANALYZE DELETE FROM t",
    "PREPARE x AS DELETE FROM t",
    "EXECUTE x",
    "DO $$ BEGIN DELETE FROM t; END $$",
    "CALL writes()",
    "LISTEN x",
    "NOTIFY x",
    "LOCK TABLE t",
    "COPY t TO '/tmp/x'",
    "COPY t FROM PROGRAM 'id'",
    "COPY (SELECT 1) TO PROGRAM 'id'",
    "PRAGMA query_only = OFF",
    "PRAGMA writable_schema(1)",
    "ATTACH 'other.db' AS other",
    "DETACH other",
    "SELECT u&\"pg!005fread_file\" UESCAPE '!' ('/etc/passwd')",
    "SELECT ?1",
    "REFRESH MATERIALIZED VIEW v",
    "",
    " ;; ",
    "-- nothing",
]
POSTGRESQL_FUNCTIONS = [
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT PG_READ_FILE('/etc/passwd')",
    "SELECT pg_catalog.pg_read_file('/etc/passwd')",
    "SELECT \"pg_read_file\"('/etc/passwd')",
    "SELECT pg_read_file/* */('/etc/passwd')",
    "SELECT pg_read_file\n('/etc/passwd')",
    "SELECT U&\"pg\\005fread_file\"('/etc/passwd')",
    "SELECT * FROM pg_ls_dir('/')",
    "SELECT * FROM t, LATERAL pg_ls_dir(t.a)",
    "SELECT 1 WHERE EXISTS (SELECT lo_import('/etc/passwd'))",
    "SELECT lo_export(1, '/tmp/x')",
    "SELECT * FROM dblink('host=other', 'DELETE FROM t') AS x(a int)",
    "SELECT set_config('transaction_read_only', 'off', true)",
    "SELECT pg_terminate_backend(1)",
    "SELECT pg_advisory_lock(1)",
    "SELECT pg_notify('a', 'b')",
    "SELECT query_to_xml('DELETE FROM t', true, true, '')",
    "SELECT pg_reload_conf()",
    "VALUES (pg_read_file('x'))",
    "SELECT 1 ORDER BY pg_read_file('x')",
    "SELECT $1",
    "SELECT $$a$$",
    "SELECT E'\\' , pg_read_file(1) -- '",
]
SQLITE_FUNCTIONS = [
    "SELECT load_extension('x.so')",
    "SELECT readfile('/etc/passwd')",
    "SELECT writefile('/tmp/x', 'y')",
    "SELECT edit('x')",
    "SELECT * FROM pragma_journal_mode",
    "SELECT * FROM t JOIN pragma_journal_mode('wal')",
    "SELECT fts3_tokenizer('x', 1)",
    "SELECT `load_extension`('x')",
    "SELECT [load_extension]('x')",
    "SELECT ?",
    "SELECT @x",
    "SELECT $x",
]


def refusal(dialect: Dialect, mode: Mode, query: str) -> str:
    """Return the reason of a refusal; fail when the query is taken."""
    with pytest.raises(TerminalError) as caught:
        checked(dialect, mode, query)
    assert caught.value.reason in {"SQL_REFUSED", "SQL_SYNTAX"}
    return caught.value.reason


@pytest.mark.parametrize("dialect", BOTH)
@pytest.mark.parametrize("query", WRITES + STATEMENTS)
def test_reading_takes_no_writes_and_no_commands(dialect: Dialect, query: str) -> None:
    refusal(dialect, "read", query)


@pytest.mark.parametrize("dialect", BOTH)
@pytest.mark.parametrize("query", [*STATEMENTS, "DROP TABLE t", "CREATE TABLE x (a int)"])
def test_writing_takes_no_commands_either(dialect: Dialect, query: str) -> None:
    refusal(dialect, "write", query)


@pytest.mark.parametrize("mode", ["read", "write"])
@pytest.mark.parametrize("query", POSTGRESQL_FUNCTIONS)
def test_postgresql_functions_that_reach_out_are_refused(mode: Mode, query: str) -> None:
    assert refusal("postgresql", mode, query) == "SQL_REFUSED"


@pytest.mark.parametrize("mode", ["read", "write"])
@pytest.mark.parametrize("query", SQLITE_FUNCTIONS)
def test_sqlite_functions_that_reach_out_are_refused(mode: Mode, query: str) -> None:
    assert refusal("sqlite", mode, query) == "SQL_REFUSED"


@pytest.mark.parametrize("dialect", BOTH)
@pytest.mark.parametrize(
    "query",
    [
        "SELECT E'\\' , load_extension(1), pg_read_file(1) --'",
        "SELECT 1E'\\' , load_extension(1), pg_read_file(1) --'",
        "SELECT _x'\\' , load_extension(1), pg_read_file(1) --'",
        'SELECT 1 AS "a\\"',
        'SELECT 1 AS u&"a"',
        "SELECT 1 \\ 2",
        "SELECT $tag$ ' $tag$, load_extension(1), pg_read_file(1), ' '",
        "SELECT /*+ ' */ load_extension(1), pg_read_file(1) /* ' */ AS x",
        "SELECT 1 -->'\n, load_extension(1), pg_read_file(1) -- '",
    ],
)
def test_what_two_readers_may_read_in_two_ways_is_refused(dialect: Dialect, query: str) -> None:
    refusal(dialect, "read", query)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT a, count(*) FROM t GROUP BY a HAVING count(*) > 1 ORDER BY 2 LIMIT :n;",
        "WITH x AS (SELECT 1 AS a) SELECT * FROM x UNION ALL SELECT 2",
        "VALUES (1, 'a;b'), (2, 'DELETE FROM t; --')",
        "(SELECT 1)",
        "SELECT 'INSERT INTO t' AS \"DROP\" -- DELETE FROM t; DELETE",
        "SELECT coalesce(a, 0), lower(b), row_number() OVER (PARTITION BY c) FROM t",
    ],
)
@pytest.mark.parametrize("dialect", BOTH)
def test_reading_takes_what_only_reads(dialect: Dialect, query: str) -> None:
    statement = checked(dialect, "read", query)
    assert statement.returns
    assert "--" not in "".join(part for part in statement.parts if isinstance(part, str)).replace(
        "DELETE FROM t; --'", ""
    )


def test_comments_do_not_go_to_the_database() -> None:
    query = "SELECT 1 /* ' */ AS a, ' */ DELETE' AS b -- ; DELETE"
    for dialect in BOTH:
        assert checked(dialect, "read", query).parts == ("SELECT 1 AS a, ' */ DELETE' AS b",)
    # A comment in a comment is PostgreSQL's alone; for SQLite a text begins here.
    query = "SELECT /* /* */ ' */ , load_extension(1) --' AS a"
    assert checked("sqlite", "read", query).parts == ("SELECT ' */ , load_extension(1) --' AS a",)


def test_postgresql_operators_and_its_harmless_functions_stay_as_they_are() -> None:
    query = (
        "SELECT pg_size_pretty(1), j->>'a', j#>>'{a,b}', j @> '{}', a[1:2], x::int, "
        "t ~* 'x', INTERVAL '1 day', now() AT TIME ZONE 'UTC', date_trunc('day', now()) FROM t"
    )
    assert "".join(map(str, checked("postgresql", "read", query).parts)) == query


def test_parameters_are_marks_of_the_driver_and_never_text() -> None:
    query = "SELECT ':no', x::int FROM t WHERE a = :a AND b IN (:b) AND c IN :c AND d = :a -- :e"
    values = {"a": "'; DROP TABLE t; --", "b": [1, 2], "c": ["x"]}
    assert bound("postgresql", checked("postgresql", "read", query), values) == (
        "SELECT ':no', x::int FROM t WHERE a = $1 AND b IN ($2, $3) AND c IN ($4) AND d = $1",
        ("'; DROP TABLE t; --", 1, 2, "x"),
    )
    text, bound_values = bound("sqlite", checked("sqlite", "read", query), values)
    assert text.endswith("WHERE a = ? AND b IN (?, ?) AND c IN (?) AND d = ?")
    assert bound_values == (values["a"], 1, 2, "x", values["a"])


@pytest.mark.parametrize(
    ("query", "values", "text"),
    [
        ("SELECT :a", {}, ":a is missing"),
        ("SELECT :a", {"a": 1, "b": 2}, "no parameter :b"),
        ("SELECT 1 WHERE 1 IN :a", {"a": 1}, "a list is wanted"),
        ("SELECT 1 WHERE 1 IN (:a)", {"a": []}, "is empty"),
    ],
)
def test_parameters_that_do_not_fit_are_named(
    query: str, values: dict[str, object], text: str
) -> None:
    with pytest.raises(TerminalError, match=text) as caught:
        bound("postgresql", checked("postgresql", "read", query), values)
    assert caught.value.reason == "SQL_PARAMETER"


def test_sizes_and_depths_are_bounded() -> None:
    refusal("postgresql", "read", "SELECT " + "1," * 40_000 + "1")
    refusal("postgresql", "read", "SELECT " + "(" * 20_000 + "1" + ")" * 20_000)
    refusal("sqlite", "read", "SELECT 1\0")
