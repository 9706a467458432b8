"""The `bend` command: for people tables and progress, for programs `--json` and exit codes."""
