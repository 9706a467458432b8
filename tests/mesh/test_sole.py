"""Whether a starting executor may take for its predecessor's what nobody has answered."""

from pathlib import Path

import pytest

from bend_server.config import Settings
from bend_server.local.mesh import Mesh
from bend_server.main import _arguments, _place


@pytest.mark.parametrize(("nats_url", "sole"), [("", True), ("tls://127.0.0.1:4222", False)])
def test_only_a_mesh_with_a_nats_of_its_own_has_one_executor(
    tmp_path: Path, nats_url: str, sole: bool
) -> None:
    """Executors of other meshes on a shared NATS would lose to it what they work on."""
    settings = Settings(home=tmp_path / "home", nats_url=nats_url, http_port=0)
    mesh = Mesh(settings)
    mesh.prepare()
    [executor] = [spec for spec in mesh.processes() if spec.name == "executor"]
    place = _place(_arguments(executor.command[3:]), settings)
    assert place.sole is sole


def test_nobody_is_the_only_one_unasked(tmp_path: Path) -> None:
    command = ["executor", "--listen", "127.0.0.1:1", "--nats", "tls://n:1", "--registry", "r:1"]
    place = _place(_arguments(command), Settings(home=tmp_path))
    assert not place.sole
