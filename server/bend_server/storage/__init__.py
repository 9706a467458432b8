"""SQL adapters (SQLite, PostgreSQL) of the store ports, and their in-memory twin."""
