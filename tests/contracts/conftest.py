"""Every contract runs over every kind of store."""

from pathlib import Path

import pytest

from tests.kit.backends import Backend


@pytest.fixture(params=["memory"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """A fresh database of each kind."""
    return Backend(request.param, tmp_path)
