"""Certificates of the integration tests."""

from tests.rpc.conftest import authority

__all__ = ["authority"]
