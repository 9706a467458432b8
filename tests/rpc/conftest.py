"""Certificates shared by all rpc tests: making keys takes a moment, so once a session."""

import pytest

from tests.kit.certificates import TestAuthority

ROLES = (
    "/engine",
    "/registry",
    "/executor",
    "/gateway",
    "/bench",
    "/component/vision",
    "/user/ada",
)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> TestAuthority:
    made = TestAuthority(tmp_path_factory.mktemp("certificates"))
    for role in ROLES:
        made.issue(role)
    made.issue(None, file="nameless")
    return made
