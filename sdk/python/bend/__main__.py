"""`python -m bend` is the `bend` command."""

from bend.cli.main import main

if __name__ == "__main__":
    main()
