"""What `bend components init` writes works: its own tests pass, its worker serves."""

import asyncio
import contextlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest

from bend.cli.component_project import write_project
from bend.cli.main import Root
from tests.integration.one_process import one_process
from tests.kit.certificates import TestAuthority
from tests.kit.loops import eventually, in_loop
from tests.kit.projects import environment, passed_tests

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project") / "greeting"
    write_project("acme.greeting", folder)
    return folder


def test_its_own_tests_pass(project: Path) -> None:
    assert "2 passed" in passed_tests(project)


def test_it_follows_our_own_rules(project: Path) -> None:
    for command in (["check", "--select", "E,F,I,B,UP"], ["format", "--check"]):
        subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--isolated", "--line-length", "100", "."],
            cwd=project,
            check=True,
            timeout=60,
            capture_output=True,
        )
    described = tomllib.loads((project / "pyproject.toml").read_text())
    assert described["project"]["name"] == "acme-greeting"
    assert described["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"] == [
        "component.py"
    ]


def test_the_commands_of_its_page_exist(project: Path) -> None:
    """Words and options of each `bend` command are taken by the command line itself."""
    page = (project / "README.md").read_text(encoding="utf-8")
    lines = [line.strip() for line in page.splitlines() if line.startswith("    ")]
    asked = [
        found.group(1)
        for line in lines
        for found in re.finditer(r"\b(bend [^#)]*)", line.partition("  #")[0])
    ]
    assert len(asked) == 4
    root = Root("bend")
    for words in map(str.split, asked):
        command: click.Command = root
        context = click.Context(root)
        rest = words[1:]
        while isinstance(command, click.Group):
            _, found, rest = command.resolve_command(context, rest)
            assert found is not None, words
            command = found
            context = click.Context(command, parent=context)
        with contextlib.chdir(project):
            command.parse_args(context, rest)


@in_loop
async def test_its_worker_serves_a_mesh(authority: TestAuthority, project: Path) -> None:
    async with one_process(authority) as road:
        place = road.worker_place()
        running = await asyncio.create_subprocess_exec(
            sys.executable,
            "component.py",
            cwd=project,
            env=environment(
                BEND_URL=place["url"],
                BEND_CA_FILE=place["ca_file"],
                BEND_CERT_FILE=place["cert_file"],
                BEND_KEY_FILE=place["key_file"],
            ),
        )
        try:
            async with road.client() as client:

                async def serves() -> bool:
                    return bool(await client.list_instances("acme.greeting"))

                await eventually(serves)
                stored = await client.deploy(project / "workflow.yaml")
                done = await client.run(stored.name, {"who": "Ada"}, timeout=30)
                assert done.output == {"text": "Good day, Ada."}
        finally:
            running.terminate()
            assert await asyncio.wait_for(running.wait(), 30) == 0
