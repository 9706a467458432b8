"""`python -m bend_server.local`: a supervisor, as `bend up --detach` starts it."""

import argparse
import contextlib
import sys
from pathlib import Path

from bend.errors import ConfigurationError
from bend_server.config import load
from bend_server.local.start import AlreadyRuns, Unusable, supervise
from bend_server.local.supervisor import StartFailed


def main() -> int:
    """Run the mesh; return the exit code."""
    parser = argparse.ArgumentParser(prog="bend_server.local")
    parser.add_argument("--home", type=Path)
    parser.add_argument("--https-port", type=int)
    parser.add_argument("--http-port", type=int)
    flags = parser.parse_args()
    try:
        settings = load(home=flags.home, https_port=flags.https_port, http_port=flags.http_port)
        supervise(settings, _say)
    except (Unusable, ConfigurationError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except AlreadyRuns as error:
        sys.stderr.write(f"error: a mesh runs on {error} already\n")
        return 1
    except StartFailed as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def _say(line: str) -> None:
    """Write one line into our log; on a full disk the mesh goes on without it."""
    with contextlib.suppress(OSError):
        print(line, flush=True)  # noqa: T201 - its log


if __name__ == "__main__":
    sys.exit(main())
