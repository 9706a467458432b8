"""`bend components init`: a folder with a component, its test, its workflow and its image."""

import keyword
import re
from pathlib import Path
from string import Template

import click

from bend import __version__
from bend.components import NAME

FILES = {
    "component.py": '''"""The component $name."""

from dataclasses import dataclass
from typing import Annotated

from bend import Context, TerminalError, Worker, component


@dataclass
class Answer:
    """What the component gives."""

    text: str
    letters: int


@component("$name", version="0.1.0")
async def $function(
    who: Annotated[str, "Whom to greet"],
    context: Context,
    politely: Annotated[bool, "Whether to be polite"] = True,
) -> Answer:
    """Greet somebody.

    Replace this by what your component does: the parameters are its input, the return type is its
    output, and this text is its documentation.
    """
    if not who.strip():
        raise TerminalError("NOBODY", "who: must not be empty")
    context.log(f"greeting {who}")
    text = f"Good day, {who}." if politely else f"Hi {who}!"
    return Answer(text, len(who))


if __name__ == "__main__":
    Worker([$function]).run()
''',
    "test_component.py": '''"""Tests of $name: the function alone, and in a workflow."""

from pathlib import Path

from bend.testing import SyncTestEngine

from component import $function

WORKFLOW = Path(__file__).parent / "workflow.yaml"


def test_a_workflow_uses_it() -> None:
    with SyncTestEngine([$function]) as engine:
        done = engine.run(WORKFLOW, {"who": "Ada"})
    assert done.status == "COMPLETED"
    assert done.output == {"text": "Good day, Ada."}


def test_an_empty_name_is_refused_and_not_tried_again() -> None:
    with SyncTestEngine([$function]) as engine:
        done = engine.run(WORKFLOW, {"who": " "})
    assert done.status == "FAILED"
    assert done.error is not None
    assert done.error.reason == "NOBODY"
    assert done.tasks[0].attempt == 1
''',
    "workflow.yaml": """name: $project
description: Uses the component $name
input:
  type: object
  required: [who]
  additionalProperties: false
  properties:
    who: {type: string}
tasks:
  - id: greet
    type: $name
    who: "{{input.who}}"
    timeout: 10s
output:
  text: "{{greet.text}}"
""",
    "pyproject.toml": """[build-system]
requires = ["hatchling>=1.26"]
build-backend = "hatchling.build"

[project]
name = "$project"
version = "0.1.0"
description = "The Bend component $name"
requires-python = ">=3.11"
dependencies = ["bend>=$bend"]

[project.optional-dependencies]
dev = ["bend[server]>=$bend", "pytest>=8"]

[tool.hatch.build.targets.wheel]
only-include = ["component.py"]

[tool.pytest.ini_options]
testpaths = ["test_component.py"]
""",
    "Dockerfile": """FROM python:3.12-slim
WORKDIR /component
COPY pyproject.toml component.py ./
RUN pip install --no-cache-dir . && useradd --system --uid 10001 component
USER 10001
# BEND_URL, BEND_CA_FILE, BEND_CERT_FILE and BEND_KEY_FILE say where the mesh is, and who this is.
CMD ["python", "component.py"]
""",
    "README.md": """# $name

A component for Bend: `component.py` has it, `workflow.yaml` uses it.

    pip install -e \'.[dev]\'
    pytest                                     # a small engine runs inside the tests
    bend up --detach                           # a local mesh; its files are in ./.bend
    env $$(bend components cert $name) python component.py
    bend run workflow.yaml -p who=Ada          # in another terminal, in this folder

The fourth line makes the component\'s certificate, says by BEND_ variables where it is, and
serves until Ctrl-C. `bend down` ends the mesh. Where no package index has Bend, install it from
a copy of its repository first: `pip install PATH[server]`.

Before a release: raise `version=` in `component.py`, and compare with what is registered:

    bend components check $name --component component.py:$function
""",
}


def function_name(name: str) -> str:
    """Return what a component's function is called: the last part of its name."""
    last = name.rpartition(".")[2]
    return f"{last}_" if keyword.iskeyword(last) or last == "component" else last


def write_project(name: str, folder: Path) -> list[Path]:
    """Write a component's project; return its files.

    Args:
        name: of the component, for example `acme.greeting`.
        folder: made when it is missing; must have none of the files.

    Raises ClickException: a wrong name, a file that is there already, a folder that is none.
    """
    if not NAME.fullmatch(name):
        raise click.UsageError(
            f"{name!r} is no component name: up to four parts of a-z, 0-9 and _, dots between"
        )
    words = {
        "name": name,
        "function": function_name(name),
        "project": re.sub("[._]+", "-", name),
        "bend": __version__,
    }
    paths = {folder / file: Template(text).substitute(words) for file, text in FILES.items()}
    for path in paths:
        if path.exists():
            raise click.UsageError(f"{path} is there already")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in paths.items():
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"{folder}: {error.strerror}") from error
    return list(paths)
