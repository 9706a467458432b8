"""Functions that a query may not call, whatever the session allows.

A read-only transaction stops writes to tables. It does not stop functions that reach files, other
servers, other sessions or the settings, nor those that run SQL from a text, which the parser would
never see.
"""

import re
from collections.abc import Mapping

from bend_executors.sql.connections import Dialect

# Of PostgreSQL's own `pg_…` functions most administer the server, so only these are let through.
_PG_READERS = frozenset(
    {
        "pg_typeof", "pg_size_pretty", "pg_size_bytes", "pg_column_size", "pg_table_size",
        "pg_relation_size", "pg_total_relation_size", "pg_indexes_size", "pg_database_size",
        "pg_get_constraintdef", "pg_get_expr", "pg_get_indexdef", "pg_get_serial_sequence",
        "pg_get_viewdef", "pg_table_is_visible", "pg_sleep", "pg_sleep_for", "pg_backend_pid",
        "pg_is_in_recovery", "pg_postmaster_start_time", "pg_timezone_names", "pg_input_is_valid",
    }
)  # fmt: skip

_POSTGRESQL = re.compile(
    "|".join(
        (
            r"pg_.*",
            r"lo_.*|loread|lowrite",  # large objects: import and export are files of the server
            r"dblink.*|postgres_fdw_.*|file_fdw_.*|http(_.*)?|net_.*",  # other servers
            r"set_config|txid_current",
            r"(query|table|cursor|schema|database)_to_xml(schema|_and_xmlschema)?",
            r"ts_stat|ts_rewrite|crosstab\w*|connectby|xpath_table|plan_filter.*",
            r"cron_.*|schedule|schedule_in_database|run_command_on_.*|master_.*",
            r"binary_upgrade_.*|currtid2?|suppress_redundant_updates_trigger",
        )
    )
)

_SQLITE = re.compile(
    r"load_extension|readfile|writefile|fileio_.*|edit|zipfile.*|sqlar_.*|lsmode|fsdir"
    r"|fts3_tokenizer|sqlite_.*|pragma_.*|dbpage|eval|shell_.*"
)

_DENIED: Mapping[Dialect, re.Pattern[str]] = {"postgresql": _POSTGRESQL, "sqlite": _SQLITE}


def denied(dialect: Dialect, name: str) -> bool:
    """Tell whether a function of this name (without its schema) may not be called."""
    name = name.lower()
    if dialect == "postgresql" and name in _PG_READERS:
        return False
    return _DENIED[dialect].fullmatch(name) is not None
