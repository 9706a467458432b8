"""SQL stores on SQLite and PostgreSQL, and their twin in memory."""
