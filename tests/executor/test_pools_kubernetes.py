"""Driver `kubernetes`: its objects against the client's models, its calls against a stand-in."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes_asyncio import client

from bend_server.executor.pools.driver import DriverFault, Unit
from bend_server.executor.pools.heard import Heard
from bend_server.executor.pools.keeper import Keeper
from bend_server.executor.pools.kubernetes import KubernetesDriver, byte_count, processors
from bend_server.executor.pools.kubernetes_objects import pod
from bend_server.executor.pools.spec import PoolSpec
from bend_server.telemetry.clock import SystemChance, SystemClock
from tests.kit.fakes.cluster import FakeCluster
from tests.kit.fakes.pools import DIGEST, demand, spec_of
from tests.kit.loops import in_loop

IMAGE = f"registry.example/thumbs@{DIGEST}"
GATEWAY = "https://bend.bend.svc:8443"
FULL = {
    "image": IMAGE,
    "command": ["serve"],
    "environment": {"COLOUR": "red"},
    "certificate_secret": "thumbs-tls",
    "service_account": "thumbs",
}
RESOURCES = {"cpu": 0.25, "memory_mib": 256}


def thumbs(**fields: Any) -> PoolSpec:
    given: dict[str, Any] = {"kubernetes": FULL, "resources": RESOURCES, **fields}
    return spec_of("thumbs", **given)


@asynccontextmanager
async def cluster() -> AsyncIterator[tuple[FakeCluster, KubernetesDriver]]:
    with FakeCluster() as fake:

        async def connect() -> client.ApiClient:
            return client.ApiClient(client.Configuration(host=fake.url))

        driver = KubernetesDriver({"gateway": GATEWAY}, connect)
        try:
            yield fake, driver
        finally:
            await driver.close()


async def unit(driver: KubernetesDriver) -> Unit:
    (found,) = await driver.units(thumbs())
    return found


@pytest.mark.parametrize(
    "spec", [thumbs(), spec_of("bare", kubernetes={"image": IMAGE})], ids=["full", "bare"]
)
@in_loop
async def test_a_pod_is_one_by_the_clients_models(spec: PoolSpec) -> None:
    """A field that the API does not know would be lost on the way through the models."""
    made = pod(spec, "thumbs-1-0000", 1, GATEWAY)
    async with client.ApiClient(client.Configuration(host="http://127.0.0.1:1")) as api:
        answer = SimpleNamespace(data=json.dumps(made))
        model = api.deserialize(answer, "V1Pod")
        assert isinstance(model, client.V1Pod)
        assert api.sanitize_for_serialization(model) == made
    assert model.spec.restart_policy == "Never"
    assert model.spec.security_context.run_as_non_root is True
    (container,) = model.spec.containers
    security = container.security_context
    assert security.allow_privilege_escalation is False
    assert security.read_only_root_filesystem is True
    assert security.capabilities.drop == ["ALL"]


def test_the_certificate_and_the_bounds_are_in_it() -> None:
    made = pod(thumbs(drain={"seconds": 40}), "thumbs-1-0000", 1, GATEWAY)["spec"]
    (container,) = made["containers"]
    environment = {one["name"]: one["value"] for one in container["env"]}
    assert environment == {
        "BEND_URL": GATEWAY,
        "BEND_CA_FILE": "/etc/bend/ca.crt",
        "BEND_CERT_FILE": "/etc/bend/tls.crt",
        "BEND_KEY_FILE": "/etc/bend/tls.key",
        "BEND_POOL_INSTANCE": "thumbs/thumbs-1-0000",
        "COLOUR": "red",
    }
    assert container["resources"]["limits"] == {"cpu": "250m", "memory": "256Mi"}
    assert {"name": "certificate", "mountPath": "/etc/bend", "readOnly": True} in container[
        "volumeMounts"
    ]
    assert made["volumes"][1]["secret"]["secretName"] == "thumbs-tls"
    assert made["terminationGracePeriodSeconds"] == 40
    bare = pod(spec_of("bare", kubernetes={"image": IMAGE}), "bare-1-0000", 1, GATEWAY)["spec"]
    assert bare["automountServiceAccountToken"] is False
    assert [volume["name"] for volume in bare["volumes"]] == ["scratch"]


@in_loop
async def test_pods_are_made_found_asked_and_removed() -> None:
    async with cluster() as (fake, driver):
        await driver.start(thumbs(), "thumbs-1-0000", 1)
        found = await unit(driver)
        assert (found.name, found.number, found.alive) == ("thumbs-1-0000", 1, True)
        assert found.place == "pod default/thumbs-1-0000"
        assert found.made_from == thumbs().fingerprint
        assert (found.cpu, found.memory_bytes) == (0.25, 64 * 1024 * 1024)
        assert (found.asked, found.started_us) == (False, 1_767_225_600_000_000)
        assert await driver.units(spec_of("other", kubernetes=FULL)) == []
        await driver.ask(thumbs(drain={"seconds": 7}), "thumbs-1-0000")
        assert fake.requests[-1][2]["gracePeriodSeconds"] == ["7"]
        assert (await unit(driver)).asked is True
        await driver.kill(thumbs(), "thumbs-1-0000")
        await driver.remove(thumbs(), "thumbs-1-0000")
        assert await driver.units(thumbs()) == []


@in_loop
async def test_ends_and_faults_are_told() -> None:
    async with cluster() as (fake, driver):
        fake.metrics = False
        await driver.start(thumbs(), "thumbs-1-0000", 1)
        fake.end("thumbs-1-0000", 3)
        found = await unit(driver)
        assert (found.alive, found.ended, found.cpu) == (False, "exit code 3 (Error)", 0.0)
        elsewhere = thumbs(kubernetes={**FULL, "cluster_namespace": "nowhere"})
        with pytest.raises(DriverFault, match="no namespace 'nowhere'"):
            await driver.start(elsewhere, "thumbs-2-0000", 2)
        fake.fault = (403, "Forbidden")
        with pytest.raises(DriverFault, match="did not list pods: 403"):
            await driver.units(thumbs())
    with pytest.raises(DriverFault, match="needs `gateway`"):
        KubernetesDriver({})


@in_loop
async def test_a_keeper_scales_pods_and_replaces_one_that_failed() -> None:
    async with cluster() as (fake, driver):
        heard = Heard()
        spec = thumbs(
            scaling={"tasks_per_instance": 4, "up_after": {}, "down_after": {}, "idle": {}},
            restarts={"backoff": {}},
        )
        keeper = Keeper(spec, driver, heard, SystemClock(), SystemChance())
        heard.demanded(demand(8), 0.0)
        await keeper.tick(0.0)
        assert len(fake.pods) == 2
        failed = next(iter(fake.pods))
        fake.end(failed, 1)
        await keeper.tick(1.0)
        assert failed not in fake.pods
        assert (len(fake.pods), keeper.counts.failures) == (2, 1)
        heard.demanded(demand(0), 2.0)
        for turn in range(2, 5):
            await keeper.tick(float(turn))
        assert all("deletionTimestamp" in one["metadata"] for one in fake.pods.values())
        fake.pods.clear()
        await keeper.tick(6.0)
        assert (keeper.counts.stops, keeper.counts.failures) == (2, 1)


def test_quantities() -> None:
    assert processors("250m") == pytest.approx(0.25)
    assert processors("1500000n") == pytest.approx(0.0015)
    assert processors("2") == 2.0
    assert [byte_count(text) for text in ("64Mi", "129M", "1024")] == [67108864, 129000000, 1024]
