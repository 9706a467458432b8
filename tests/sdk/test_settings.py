"""Settings: flag, then environment, then the local mesh; nothing misspelt is ignored."""

from pathlib import Path

import orjson
import pytest

from bend.errors import ConfigurationError, Unreachable
from bend.settings import check_environment, load_settings


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home in which a mesh runs."""
    (tmp_path / "run").mkdir()
    for name in ("ca.pem", "user.pem", "user.key", "other.pem", "other.key"):
        (tmp_path / name).write_text(name)
    document = {
        "version": 1,
        "urls": {"https": "https://127.0.0.1:8443", "http": "http://127.0.0.1:8080"},
        "ca_file": str(tmp_path / "ca.pem"),
        "cert_file": str(tmp_path / "user.pem"),
        "key_file": str(tmp_path / "user.key"),
        "pid": 1,
    }
    (tmp_path / "run" / "endpoints.json").write_bytes(orjson.dumps(document))
    return tmp_path


def test_the_local_mesh_needs_no_settings(home: Path) -> None:
    found = load_settings(environment={"BEND_HOME": str(home)})
    assert found.url == "https://127.0.0.1:8443"
    assert found.target == "127.0.0.1:8443"
    assert found.ca_file == home / "ca.pem"
    assert found.cert_file == home / "user.pem"


def test_environment_wins_over_the_mesh_and_flags_over_both(home: Path) -> None:
    environment = {
        "BEND_HOME": "/nowhere",
        "BEND_CERT_FILE": str(home / "other.pem"),
        "BEND_KEY_FILE": str(home / "other.key"),
        "BEND_TOKEN": "from-environment",
    }
    found = load_settings(home=home, token="from-flag", environment=environment)
    assert found.cert_file == home / "other.pem"
    assert found.metadata() == [("authorization", "Bearer from-flag")]


def test_another_mesh_gets_no_local_certificates(home: Path) -> None:
    """Two meshes side by side: the one's authority says nothing about the other."""
    environment = {"BEND_HOME": str(home), "BEND_URL": "https://bend.example:443"}
    found = load_settings(environment=environment)
    assert found.ca_file is None
    assert found.cert_file is None
    same = load_settings(url="https://localhost:8443", environment={"BEND_HOME": str(home)})
    assert same.ca_file == home / "ca.pem"


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"BEND_UURL": "x"}, "BEND_UURL; the nearest known one is BEND_URL"),
        ({"BEND_URL": "bend.example"}, "must look like https://host:port"),
        ({"BEND_URL": "https://h:99999"}, "must look like https://host:port"),
        ({"BEND_URL": "http://bend.example:80"}, "plain http is for loopback only"),
        ({"BEND_URL": "https://h:1", "BEND_CA_FILE": "/none"}, "BEND_CA_FILE: /none is not a file"),
        ({}, "no mesh is known"),
    ],
)
def test_wrong_settings_are_named(environment: dict[str, str], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=said):
        load_settings(environment={"BEND_HOME": str(tmp_path), **environment})


def test_a_stopped_mesh_is_unreachable(tmp_path: Path) -> None:
    (tmp_path / "certs").mkdir()
    with pytest.raises(Unreachable, match="does not run: start it by `bend up`") as stopped:
        load_settings(environment={"BEND_HOME": str(tmp_path)})
    assert stopped.value.reason == "NO_MESH"


def test_secrets_are_named_freely() -> None:
    check_environment({"BEND_SECRET_API_KEY": "x", "PATH": "/bin"})


def test_a_certificate_without_its_key_is_refused(home: Path) -> None:
    with pytest.raises(ConfigurationError, match="belong together"):
        load_settings(
            url="https://h:1", cert_file=home / "user.pem", environment={"BEND_HOME": str(home)}
        )


def test_a_damaged_endpoints_file_is_an_error(home: Path) -> None:
    path = home / "run" / "endpoints.json"
    path.write_text("{")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_settings(home=home, environment={})
    path.write_text('{"version": 2}')
    with pytest.raises(ConfigurationError, match="another version"):
        load_settings(home=home, environment={})


def test_addresses_of_ip_version_6() -> None:
    found = load_settings(url="http://[::1]:8080", environment={"BEND_HOME": "/nowhere"})
    assert found.target == "[::1]:8080"
