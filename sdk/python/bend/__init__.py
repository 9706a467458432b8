"""Bend's Python SDK: start workflows (`Client`) and serve components (`Worker`).

Importing this package is cheap: each name is loaded when it is first used.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bend.client import Client as Client
    from bend.components import Component as Component
    from bend.components import Context as Context
    from bend.components import Final as Final
    from bend.components import component as component
    from bend.errors import BendError as BendError
    from bend.errors import RetryableError as RetryableError
    from bend.errors import TerminalError as TerminalError
    from bend.worker import Worker as Worker
    from bend.workflow import Workflow as Workflow

__version__ = "0.1.0"

# gRPC tells of every lost connection on stderr; the SDK reports what matters itself. It reads
# this once, when it is imported.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

PLACES = {
    "BendError": "bend.errors",
    "Client": "bend.client",
    "Component": "bend.components",
    "Context": "bend.components",
    "Final": "bend.components",
    "RetryableError": "bend.errors",
    "TerminalError": "bend.errors",
    "Worker": "bend.worker",
    "Workflow": "bend.workflow",
    "component": "bend.components",
}

__all__ = [  # noqa: PLE0604 - the names come from the table above
    "__version__",
    *PLACES,
]


def __getattr__(name: str) -> object:
    """Load a public name on first use."""
    if name == "component" or name in PLACES:
        value = getattr(import_module(PLACES[name]), name)
        globals()[name] = value
        return value
    if name in {"sync", "errors"}:
        return import_module(f"bend.{name}")
    raise AttributeError(f"module 'bend' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted({*globals(), *PLACES, "sync"})
