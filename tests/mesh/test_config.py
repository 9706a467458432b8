"""Settings: names, bounds, precedence, and nothing secret in the log."""

from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from bend.errors import ConfigurationError
from bend.settings import VARIABLES
from bend_server.config import FIELDS, load, masked_url


def test_server_and_sdk_know_the_same_names() -> None:
    # The executor sets it for instances of its pools; no server reads it.
    assert {f"BEND_{name.upper()}" for name in FIELDS} == set(VARIABLES) - {"BEND_POOL_INSTANCE"}


def test_every_setting_says_what_it_is() -> None:
    for name, about in FIELDS.items():
        assert about["description"], name


def test_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match="BEND_DATABASE_URL"):
        load({"BEND_DATABSE_URL": "sqlite:///x"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BEND_HTTPS_PORT", "0"),
        ("BEND_HTTP_PORT", "65536"),
        ("BEND_LOG_LEVEL", "loud"),
        ("BEND_HTTPS_PORT", "many"),
        ("BEND_DATABASE_URL", "mysql://nowhere/x"),
        ("BEND_DATABASE_URL", "postgresql://bend@db/bend"),
        ("BEND_DATABASE_URL", "bend.db"),
        ("BEND_DATABASE_URL", "sqlite://"),
        ("BEND_DATABASE_URL", "postgresql+asyncpg://bend@db:port/bend"),
        ("BEND_NATS_URL", "nats.example"),
        ("BEND_NATS_URL", "tls://one:4222,http://two:4222"),
        ("BEND_NATS_URL", "tls://one:99999"),
        ("BEND_NATS_URL", "tls://[one:4222"),
    ],
)
def test_out_of_bounds_names_the_variable(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        load({name: value})


def test_flag_wins_over_environment_and_empty_means_unset(tmp_path: Path) -> None:
    environment = {"BEND_HTTPS_PORT": "9443", "BEND_LOG_LEVEL": "debug", "BEND_HTTP_PORT": ""}
    settings = load(environment, https_port=9000, home=tmp_path)
    assert (settings.https_port, settings.http_port) == (9000, None)
    assert settings.log_level == "debug"
    assert settings.database == f"sqlite:///{tmp_path}/bend.db"
    assert settings.token_file == tmp_path / "certs" / "token"


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        load({}).log_level = "error"  # type: ignore[misc]


def test_nothing_secret_is_printed() -> None:
    settings = load(
        {
            "BEND_TOKEN": "hunter2",
            "BEND_DATABASE_URL": "postgresql+asyncpg://bend:hunter2@db:5432/bend?password=hunter2",
            "BEND_BLOB_URL": "s3://bucket?secret=hunter2",
        }
    )
    shown = settings.masked()
    assert "hunter2" not in str(shown)
    assert shown["database_url"] == "postgresql+asyncpg://bend:***@db:5432/bend?***"
    assert shown["token"] == "***"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:////home/ada/.bend/bend.db", "sqlite:////home/ada/.bend/bend.db"),
        ("postgresql+asyncpg://u:p@h:5432/d", "postgresql+asyncpg://u:***@h:5432/d"),
        ("postgresql://h/d?password=p", "postgresql://h/d?***"),
        ("no url", "no url"),
    ],
)
def test_a_url_is_shown_whole_but_for_its_secrets(url: str, shown: str) -> None:
    assert masked_url(url) == shown
