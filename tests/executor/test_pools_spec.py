"""Descriptions of pools: what is refused and why, defaults, the operator's file."""

from pathlib import Path
from typing import Any

import pytest

from bend.errors import ConfigurationError
from bend_server.core.errors import InvalidInput
from bend_server.executor.pools.configuration import read_pools
from bend_server.executor.pools.spec import PoolSpec, Restarts, Scaling, pool_spec
from tests.kit.fakes.pools import DIGEST, described, spec_of

WRONG: dict[str, dict[str, Any]] = {
    "name": {"name": "Slow"},
    "component": {"component": "no name"},
    "version": {"version": "1"},
    "driver": {},
    "process.command": {"process": {"command": ["", "x"]}},
    "process.environment": {"process": {"command": ["x"], "environment": {"a b": "c"}}},
    "docker.image": {"docker": {"image": "repository:latest"}},
    "kubernetes.image": {"kubernetes": {"image": f"x@{DIGEST[:-1]}"}},
    "max_instances": {"min_instances": 9, "max_instances": 8},
}


@pytest.mark.parametrize("field", WRONG)
def test_the_wrong_field_is_named(field: str) -> None:
    message = described(**WRONG[field])
    if field == "driver":
        message.ClearField("process")
    with pytest.raises(InvalidInput) as caught:
        pool_spec("default", message)
    assert caught.value.metadata["field"] == f"pool.{field}"


@pytest.mark.parametrize("name", ["BEND_URL", "BEND_KEY_FILE", "BEND_CERT_FILE", "BEND_CA_FILE"])
def test_an_instance_cannot_be_led_to_another_mesh(name: str) -> None:
    with pytest.raises(InvalidInput, match="is set by the executor"):
        spec_of(process={"command": ["x"], "environment": {name: "elsewhere"}})


def test_defaults() -> None:
    spec = pool_spec("default", described(max_instances=0))
    assert (spec.least, spec.most, spec.drain_s, spec.start_s) == (0, 1, 30.0, 60.0)
    assert (spec.scaling, spec.restarts) == (Scaling(), Restarts())
    exact = spec_of(scaling={"tolerance_percent": 0, "up_after": {}})
    assert (exact.scaling.tolerance, exact.scaling.up_after_s) == (0.0, 0.0)


def test_only_another_program_has_another_fingerprint() -> None:
    spec = spec_of()
    assert spec_of(max_instances=3, drain={"seconds": 1}).fingerprint == spec.fingerprint
    others = [
        spec_of(process={"command": ["worker", "x"]}),
        spec_of(process={"command": ["worker"], "environment": {"A": "b"}}),
        spec_of(resources={"memory_mib": 1}),
        spec_of(version="1.0.0"),
        spec_of(docker={"image": f"x@{DIGEST}"}),
    ]
    assert len({spec.fingerprint, *(one.fingerprint for one in others)}) == 6


def read(folder: Path, text: str) -> dict[tuple[str, str], PoolSpec]:
    path = folder / "pools.yaml"
    path.write_text(text)
    return read_pools(path, "default").pools


def test_the_example_is_right() -> None:
    path = Path(__file__).resolve().parents[2] / "examples" / "pools" / "pools.yaml"
    content = read_pools(path, "default")
    spec = content.pools["default", "slow"]
    assert (spec.component, spec.most, spec.scaling.idle_s) == ("example.slow", 4, 5.0)
    assert content.api_drivers == {"process"}


def test_no_file_and_an_empty_one_say_nothing(tmp_path: Path) -> None:
    assert read_pools(tmp_path / "none.yaml", "default").pools == {}
    assert read(tmp_path, "") == {}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("- 1", "a map is wanted"),
        ("pool: []", "unknown key 'pool'"),
        ("pools: {}", "pools is a list"),
        ("pools: [7]", "pool 1 is no map"),
        ("api_drivers: [shell]", "api_drivers is a list of"),
        ("docker: {url: 7}", "docker is a map of texts"),
        ("pools: [{name: a, component: b, procss: {}}]", 'no field named "procss"'),
        ("pools: [{name: a, component: b, drain: soon}]", "drain"),
        ("pools: [{name: a, component: b}]", "pool.driver"),
        ("pools: [{", "cannot be read"),
        (
            "pools: [&a {name: a, component: b, process: {command: [x]}}, *a]",
            "pool 'a' is there twice",
        ),
    ],
)
def test_a_wrong_file_says_where(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, text)
    assert why in str(caught.value)
    assert "pools.yaml" in str(caught.value)
