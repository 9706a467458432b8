"""Driver `docker` against a stand-in for the engine: what it asks, what it makes of answers."""

import builtins
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bend_server.executor.pools import docker as docker_driver
from bend_server.executor.pools.docker import DockerDriver
from bend_server.executor.pools.driver import DriverFault, Unit
from bend_server.executor.pools.heard import Heard
from bend_server.executor.pools.keeper import Keeper
from bend_server.telemetry.clock import SystemChance, SystemClock
from tests.kit.fakes.dockerd import CREATED, FakeDocker
from tests.kit.fakes.pools import DIGEST, demand, spec_of
from tests.kit.loops import in_loop

IMAGE = f"registry.example/thumbs@{DIGEST}"
SPEC = spec_of(
    "thumbs",
    docker={
        "image": IMAGE,
        "command": ["serve"],
        "environment": {"COLOUR": "red"},
        "network": "bend",
    },
    resources={"cpu": 1.5, "memory_mib": 256},
    drain={"seconds": 20},
)


def access(component: str) -> Mapping[str, str]:
    return {
        "BEND_URL": "https://127.0.0.1:8443",
        "BEND_CA_FILE": "/certs/ca.pem",
        "BEND_CERT_FILE": f"/certs/component-{component}.pem",
        "BEND_KEY_FILE": f"/certs/component-{component}.key",
    }


@asynccontextmanager
async def engine() -> AsyncIterator[tuple[FakeDocker, DockerDriver]]:
    with FakeDocker() as fake:
        fake.images.add(IMAGE)
        driver = DockerDriver(access, {"url": fake.url, "gateway": "https://bend:8443"})
        try:
            yield fake, driver
        finally:
            await driver.close()


async def unit(driver: DockerDriver) -> Unit:
    (found,) = await driver.units(SPEC)
    return found


@in_loop
async def test_a_container_is_made_without_privileges_and_found_again() -> None:
    async with engine() as (fake, driver):
        await driver.start(SPEC, "thumbs-1-0000", 1)
        made = fake.made()
        assert (made["Image"], made["Cmd"]) == (IMAGE, ["serve"])
        environment = dict(one.split("=", 1) for one in made["Env"])
        assert environment == {
            "BEND_URL": "https://bend:8443",
            "BEND_CA_FILE": "/etc/bend/ca.pem",
            "BEND_CERT_FILE": "/etc/bend/tls.crt",
            "BEND_KEY_FILE": "/etc/bend/tls.key",
            "BEND_POOL_INSTANCE": "thumbs/thumbs-1-0000",
            "COLOUR": "red",
        }
        host: dict[str, Any] = made["HostConfig"]
        assert host["ReadonlyRootfs"] is True
        assert host["CapDrop"] == ["ALL"]
        assert host["SecurityOpt"] == ["no-new-privileges"]
        assert "Privileged" not in host or host["Privileged"] is False
        assert (host["Memory"], host["NanoCpus"]) == (256 * 1024 * 1024, 1_500_000_000)
        assert host["NetworkMode"] == "bend"
        assert "/certs/component-example.slow.key:/etc/bend/tls.key:ro" in host["Binds"]
        assert all(bind.endswith(":ro") for bind in host["Binds"])
        assert made.get("User") == (f"{os.getuid()}:{os.getgid()}" if os.getuid() else None)
        assert made["StopTimeout"] == 20
        found = await unit(driver)
        assert (found.name, found.number, found.alive) == ("thumbs-1-0000", 1, True)
        assert found.place.startswith("container 0000")
        assert found.started_us == CREATED * 1_000_000
        assert found.made_from == SPEC.fingerprint
        assert await driver.units(spec_of("other", docker={"image": IMAGE})) == []


@in_loop
async def test_ends_are_told_and_removed() -> None:
    async with engine() as (fake, driver):
        for number, (end, code) in enumerate(((driver.ask, 0), (driver.kill, 137)), 1):
            name = f"thumbs-{number}-0000"
            await driver.start(SPEC, name, number)
            await end(SPEC, name)
            found = await unit(driver)
            assert (found.alive, found.ended) == (False, f"Exited ({code}) 1 second ago")
            # It has ended in between: no fault.
            await end(SPEC, name)
            await driver.remove(SPEC, name)
            await driver.remove(SPEC, name)
            await driver.kill(SPEC, name)
            assert await driver.units(SPEC) == []
        assert fake.containers == {}


@in_loop
async def test_use_is_the_difference_of_two_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_driver, "SAMPLE_S", 0.0)
    async with engine() as (_, driver):
        await driver.start(SPEC, "thumbs-1-0000", 1)
        first = await unit(driver)
        assert (first.cpu, first.memory_bytes) == (0.0, 2_000_000)
        # The stand-in uses half a second of processor in each second.
        assert (await unit(driver)).cpu == pytest.approx(0.5)


@in_loop
async def test_faults_say_what_and_why() -> None:
    async with engine() as (fake, driver):
        fake.images.clear()
        with pytest.raises(DriverFault, match=r"no image registry\.example/thumbs@sha256"):
            await driver.start(SPEC, "thumbs-1-0000", 1)
        fake.fault = (500, "the disk is full")
        with pytest.raises(DriverFault, match=r"did not list containers.*the disk is full"):
            await driver.units(SPEC)
    away = DockerDriver(access, {"url": fake.url})
    with pytest.raises(DriverFault, match="did not list containers"):
        await away.units(SPEC)
    await away.close()


@in_loop
async def test_a_keeper_scales_containers_and_a_new_one_takes_them_over() -> None:
    async with engine() as (fake, driver):
        heard = Heard()
        spec = spec_of(
            "thumbs",
            docker={"image": IMAGE},
            scaling={"tasks_per_instance": 4, "up_after": {}, "down_after": {}, "idle": {}},
        )
        keeper = Keeper(spec, driver, heard, SystemClock(), SystemChance())
        heard.demanded(demand(8), 0.0)
        await keeper.tick(0.0)
        assert len(fake.containers) == 2
        second = Keeper(spec, driver, heard, SystemClock(), SystemChance())
        await second.tick(1.0)
        assert (second.wanted, second.counts.starts, len(fake.containers)) == (2, 0, 2)
        heard.demanded(demand(0), 2.0)
        for turn in range(2, 8):
            await second.tick(float(turn))
        assert fake.containers == {}
        assert (second.counts.stops, second.counts.failures) == (2, 0)


def test_without_the_package_the_fault_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] in {"docker", "kubernetes_asyncio"}:
            raise ModuleNotFoundError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(DriverFault, match=r"pip install 'bend\[docker\]'"):
        DockerDriver(access, {})
