"""Systems and versions of Python that were not promised are refused by name, everywhere."""

import platform
import re
import sys
import tomllib
from pathlib import Path

import pytest

from bend import Client, Worker, component
from bend.errors import ConfigurationError
from bend.platforms import PYTHON_FIRST, PYTHON_LAST, require_platform
from bend_server import config

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


@component("test.nothing")
def nothing() -> None:
    """A component that is never run."""


@pytest.mark.parametrize(
    ("system", "machine"),
    [("Linux", "x86_64"), ("Linux", "aarch64"), ("Darwin", "arm64"), ("Darwin", "x86_64")],
)
@pytest.mark.parametrize("minor", [11, 12, 13])
def test_what_was_promised_is_let_in(
    monkeypatch: pytest.MonkeyPatch, system: str, machine: str, minor: int
) -> None:
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(sys, "version_info", (3, minor, 9, "final", 0))
    require_platform()


@pytest.mark.parametrize(
    ("system", "machine", "python", "said"),
    [
        (
            "Windows",
            "AMD64",
            (3, 11),
            "Linux and macOS, x86-64 and arm64; this is Windows on AMD64",
        ),
        ("Linux", "riscv64", (3, 11), "this is Linux on riscv64"),
        ("FreeBSD", "amd64", (3, 11), "this is FreeBSD on amd64"),
        ("Linux", "x86_64", (3, 10), "Python 3.11 to 3.13; this is"),
        ("Darwin", "arm64", (3, 14), "Python 3.11 to 3.13; this is"),
    ],
)
def test_all_else_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    system: str,
    machine: str,
    python: tuple[int, int],
    said: str,
) -> None:
    """Else it fails later, in a library, with words that lead nowhere."""
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(sys, "version_info", (*python, 0, "final", 0))
    doors = (
        lambda: Worker([nothing]),
        lambda: Client("https://127.0.0.1:1"),
        lambda: config.load({}, home=tmp_path),
    )
    for door in doors:
        with pytest.raises(ConfigurationError, match=re.escape(said)) as refused:
            door()
        assert refused.value.reason == "UNSUPPORTED_PLATFORM"
        assert refused.value.metadata["machine"] == machine


def test_the_package_says_the_same_versions() -> None:
    """pip refuses what we would refuse, before anything is installed."""
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    (first, last), after = (PYTHON_FIRST, PYTHON_LAST), PYTHON_LAST[1] + 1
    assert project["requires-python"] == f">={first[0]}.{first[1]},<{last[0]}.{after}"
    named = [line.rpartition(" :: ")[2] for line in project["classifiers"]]
    minors = range(first[1], after)
    assert [name for name in named if name.startswith("3.")] == [f"3.{minor}" for minor in minors]
