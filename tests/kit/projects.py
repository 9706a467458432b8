"""Projects of component authors: their own tests, run as their author runs them."""

import os
import subprocess
import sys
from pathlib import Path


def environment(**more: str) -> dict[str, str]:
    """Return this process's variables without any of Bend's, and more."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("BEND_")}
    return plain | more


def passed_tests(folder: Path) -> str:
    """Run the tests in a folder, which have to pass; return what pytest said."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
