"""The loop around the core: starts, results, group commit, dispatch, timers, recovery."""

from bend_server.engine.engine import Engine
from bend_server.engine.options import EngineOptions

__all__ = ["Engine", "EngineOptions"]
