"""If these fail, every start of a process pays for libraries that it does not use, or not yet."""

import subprocess
import sys

# What roles and adapters bring in when they need it, and what none of them needs.
LATER = ("rich", "sqlalchemy", "alembic", "nats", "obstore", "cryptography", "cel")
CODE = """
import sys
import bend_server.main
print(" ".join(sys.modules))
"""


def test_a_role_starts_without_what_it_may_not_need() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = set(ended.stdout.split())
    assert "structlog" in loaded
    assert loaded.isdisjoint(LATER)
    rooms = {name.split(".")[1] for name in loaded if name.startswith("bend_server.")}
    assert rooms == {"config", "core", "main", "ports", "roles", "rpc", "telemetry", "tls"}
