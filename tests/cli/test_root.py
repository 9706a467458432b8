"""The root command: settings, absence of the server, help, and that nobody sees a traceback."""

import platform
import subprocess
import sys
from pathlib import Path

import click
import pytest

from bend.cli import main as root
from tests.kit.command_line import CommandLine


def test_nobody_there_is_code_5(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bend = CommandLine(monkeypatch, capsys, "http://127.0.0.1:9")
    done = bend("executions", "list")
    assert done.code == 5
    assert "http://127.0.0.1:9 cannot be reached" in done.err


def test_no_mesh_is_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    bend = CommandLine(monkeypatch, capsys, "")
    done = bend("workflows", "list", "--home", str(tmp_path))
    assert done.code == 2
    assert "bend up" in done.err


def test_an_unknown_setting_is_code_2_with_the_nearest(
    bend: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEND_TOKNE", "x")
    done = bend("version")
    assert done.code == 2
    assert "BEND_TOKNE; the nearest known one is BEND_TOKEN" in done.err


def test_a_misspelt_command_names_the_nearest(bend: CommandLine) -> None:
    done = bend("workflow", "list")
    assert done.code == 2
    assert "Did you mean workflows?" in done.err


def test_without_the_server_its_commands_say_what_to_install(
    bend: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(root, "_loaded", {})
    monkeypatch.setattr(root, "_asked", True)
    for arguments in (("up", "--detach"), ("components", "cert", "x")):
        done = bend(*arguments)
        assert done.code == 2
        assert "pip install 'bend[server]'" in done.err


def test_on_another_system_every_command_says_so(
    bend: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There the server cannot even be imported: "install the server" would lead nowhere."""
    monkeypatch.setattr(root, "_loaded", {})
    monkeypatch.setattr(root, "_asked", True)
    monkeypatch.setattr(platform, "system", lambda: "Windows")
    for arguments in (("up",), ("up", "--detach"), ("run", "x.yaml")):
        done = bend(*arguments)
        assert done.code == 2
        assert "UNSUPPORTED_PLATFORM: Bend runs on Linux and macOS" in done.err
        assert "pip install" not in done.err


def test_the_server_adds_commands_and_extends_groups(
    bend: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    @click.command()
    def up() -> None:
        """Start a mesh."""
        click.echo("ready")

    @click.group()
    def components() -> None:
        """The server's half of our group."""

    @components.command()
    @click.argument("name")
    def cert(name: str) -> None:
        """Make a certificate."""
        click.echo(f"cert of {name}")

    monkeypatch.setattr(root, "_loaded", {"up": up, "components": components})
    monkeypatch.setattr(root, "_asked", True)
    assert bend("up").out == "ready\n"
    assert bend("components", "cert", "x").out == "cert of x\n"
    listed = bend("components", "--help").out
    assert "cert" in listed
    assert "instances" in listed


def test_a_fault_of_ours_is_one_line(bend: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def up() -> None:
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr(root, "_loaded", {"up": up})
    monkeypatch.setattr(root, "_asked", True)
    done = bend("up")
    assert done.code == 1
    assert done.err == (
        "error: INTERNAL: ZeroDivisionError: a fault (BEND_LOG_LEVEL=debug shows where)\n"
    )


@pytest.mark.parametrize(
    "command", [("executions", "get"), ("run",), ("workflows", "get"), ("wait",)]
)
def test_an_argument_that_is_no_text_is_code_2(bend: CommandLine, command: tuple[str, ...]) -> None:
    done = bend(*command, "caf\udce9")
    assert done.code == 2
    assert done.err == "error: the argument caf\\xe9 is not UTF-8\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(bend: CommandLine, shell: str) -> None:
    assert "_BEND_COMPLETE" in bend("completion", shell).out


def test_the_command_starts_without_grpc_and_rich() -> None:
    """`bend --help` and completion must not cost a second."""
    code = (
        "import sys; import bend, bend.cli.main, bend.cli.run, bend.cli.executions;"
        "print([m for m in ('grpc', 'rich', 'google.protobuf', 'bend_server') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
