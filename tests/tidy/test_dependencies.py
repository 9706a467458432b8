"""What pyproject.toml promises of libraries is what the code needs and the tests are run with."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
GENERATED = sorted((ROOT / "sdk" / "python").rglob("*_pb2*.py"))


def requirements() -> list[Requirement]:
    """Return every library that any extra asks for, without our own extras."""
    extras = PROJECT["optional-dependencies"].values()
    lines = [*PROJECT["dependencies"], *(line for lines in extras for line in lines)]
    found = [Requirement(line) for line in lines]
    return [one for one in found if one.name != PROJECT["name"]]


def lowest(name: str) -> Version:
    """Return the lower bound of a library."""
    (found,) = {
        spec.version
        for one in requirements()
        if one.name == name
        for spec in one.specifier
        if spec.operator == ">="
    }
    return Version(found)


def test_generated_code_runs_with_the_lowest_versions() -> None:
    """It refuses, at import, a runtime older than what generated it."""
    asked: dict[str, set[str]] = {"protobuf": set(), "grpcio": set()}
    for path in GENERATED:
        text = path.read_text(encoding="utf-8")
        asked["protobuf"] |= set(re.findall(r"^# Protobuf Python Version: (\S+)$", text, re.M))
        asked["grpcio"] |= set(re.findall(r"^GRPC_GENERATED_VERSION = '(\S+)'$", text, re.M))
    for name, versions in asked.items():
        assert versions, f"no generated file names the version of {name}"
        newest = max(map(Version, versions))
        assert lowest(name) >= newest, f"{name}>={newest}: run by protos/generate.py"


def test_the_tested_versions_are_allowed() -> None:
    lines = (ROOT / "deploy" / "constraints.txt").read_text().split()
    tested = dict(line.split("==") for line in lines)
    for one in requirements():
        assert one.specifier.contains(tested[one.name.lower()]), one
