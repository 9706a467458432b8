"""Bend's Python SDK."""
