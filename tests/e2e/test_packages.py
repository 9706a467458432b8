"""What a user installs: the wheel in a clean environment, without and with the server.

The light environment is what a component author has: `pip install bend` and nothing else.
"""

import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from bend_server.bench.lock import heavy
from bend_server.bench.mesh import Mesh
from tests.kit.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
SERVICE = """
from bend import Worker, component

@component("packaged.double", version="1.0.0")
def double(value: int) -> int:
    return 2 * value

Worker([double]).run()
"""
SERVER_LIBRARIES = ("sqlalchemy", "nats", "onnxruntime", "cryptography", "httpx")

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]


def run(*command: str | Path, env: dict[str, str] | None = None) -> str:
    """Run a program; return its output; fail with its error text."""
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        env=env,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the checkout."""
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT)
    (made,) = out.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def light(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean environment with `pip install bend`; returns its Python."""
    home = tmp_path_factory.mktemp("light") / "venv"
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", wheel)
    return python


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Mesh]:
    with heavy():
        fresh = Mesh(tmp_path / "home", None)
        fresh.up()
        try:
            yield fresh
        finally:
            fresh.down()


def test_the_sdk_brings_no_server_library(light: Path) -> None:
    listed = run(light, "-m", "pip", "list", "--format=freeze").lower()
    assert not [name for name in SERVER_LIBRARIES if f"\n{name}==" in f"\n{listed}"]


def test_server_commands_say_what_to_install(light: Path) -> None:
    done = subprocess.run(
        [str(light.parent / "bend"), "up"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "pip install 'bend[server]'" in done.stderr


def test_a_component_service_needs_only_the_sdk(light: Path, mesh: Mesh, tmp_path: Path) -> None:
    """The light environment's service registers itself with a mesh and does a task."""
    service = tmp_path / "service.py"
    service.write_text(SERVICE, encoding="utf-8")
    workflow = tmp_path / "workflow.yaml"
    workflow.write_text(
        "name: packaged\ntasks:\n  - {id: twice, type: packaged.double, value: 21}\n",
        encoding="utf-8",
    )
    mesh.bend("components", "cert", "packaged")
    certs = mesh.home / "certs"
    env = {k: v for k, v in os.environ.items() if not k.startswith("BEND_")} | {
        "BEND_HOME": str(mesh.home),
        "BEND_CERT_FILE": str(certs / "component-packaged.pem"),
        "BEND_KEY_FILE": str(certs / "component-packaged.key"),
    }
    with subprocess.Popen([str(light), str(service)], env=env) as process:
        try:
            command = [str(light.parent / "bend"), "components", "get", "packaged.double"]
            wait_until(
                lambda: (
                    subprocess.run(command, env=env, capture_output=True, check=False).returncode
                    == 0
                ),
                "the service registers itself",
                90,
            )
            # A component may not start workflows; the machine's user may.
            user = {k: v for k, v in env.items() if k not in {"BEND_CERT_FILE", "BEND_KEY_FILE"}}
            answer = run(light.parent / "bend", "run", workflow, "--json", env=user)
        finally:
            process.terminate()
    assert '"twice":42' in answer.replace(" ", "")
