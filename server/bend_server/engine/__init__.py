"""The loop around the core: starts, results, group commit, dispatch, timers, recovery."""
