"""Readable stories of one execution; `python -m tests.scenarios --rewrite` writes what happens."""
