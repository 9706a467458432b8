"""Certificates, a backend and a gateway shared by the tests of this room."""

from collections.abc import Iterator

import pytest

from tests.kit.certificates import TestAuthority
from tests.mesh.backend import Backend, backend
from tests.mesh.doors import Gateway, gateway


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> TestAuthority:
    """Return an authority with a certificate for every role."""
    made = TestAuthority(tmp_path_factory.mktemp("certificates"))
    for role in ("/engine", "/executor", "/registry", "/gateway", "/component/x", "/user/ada"):
        made.issue(role)
    return made


@pytest.fixture(scope="module")
def service(authority: TestAuthority) -> Iterator[Backend]:
    """Run a backend with the engine's certificate."""
    with backend(authority, "engine") as made:
        yield made


@pytest.fixture(scope="module")
def door(authority: TestAuthority, service: Backend) -> Iterator[Gateway]:
    """Run a gateway in front of it."""
    with gateway(authority, service.port) as made:
        yield made
