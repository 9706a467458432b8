"""Bend's server: engine, registry and executor around a pure core (docs/ARCHITECTURE.md)."""
