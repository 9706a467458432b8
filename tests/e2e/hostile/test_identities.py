"""A valid certificate of another role on every link, and no, expired or foreign ones.

What would break in production if these fail: any component service could act as the engine.
"""

import datetime
import ssl
from pathlib import Path
from typing import Any

import grpc
import httpx
import nats.errors
import pytest

from bend.v1 import (
    engine_service_pb2,
    engine_service_pb2_grpc,
    executor_service_pb2,
    executor_service_pb2_grpc,
    registry_service_pb2,
    registry_service_pb2_grpc,
)
from bend_server.certificates import Authority
from tests.e2e.hostile.house import House, complaint
from tests.kit.loops import in_loop

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]

ENGINE = "spiffe://bend.local/engine"
REFUSED = {grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED}
Metadata = list[tuple[str, str]]


def call_engine(channel: grpc.Channel, metadata: Metadata | None = None) -> Any:
    """Ask for the workflows."""
    request = engine_service_pb2.ListWorkflowsRequest()
    stub = engine_service_pb2_grpc.EngineServiceStub(channel)
    return stub.ListWorkflows(request, metadata=metadata, timeout=30)


def call_registry(channel: grpc.Channel, metadata: Metadata | None = None) -> Any:
    """Register a component, as executors do for their services."""
    request = registry_service_pb2.RegisterComponentRequest()
    request.contract.name, request.contract.version = "hostile.forged", "1.0.0"
    request.contract.input_schema = request.contract.output_schema = b"{}"
    stub = registry_service_pb2_grpc.RegistryServiceStub(channel)
    return stub.RegisterComponent(request, metadata=metadata, timeout=30)


def call_executor(channel: grpc.Channel, metadata: Metadata | None = None) -> Any:
    """Serve a component."""
    hello = executor_service_pb2.ConnectRequest()
    hello.hello.protocol_version = 1
    hello.hello.instance_id, hello.hello.credit = "forged", 1
    contract = hello.hello.components.add(name="hostile.forged", version="1.0.0")
    contract.input_schema = contract.output_schema = b"{}"
    stub = executor_service_pb2_grpc.ExecutorServiceStub(channel)
    return list(stub.Connect(iter([hello]), metadata=metadata, timeout=30))


CALLS = {"engine": call_engine, "registry": call_registry, "executor": call_executor}
LINKS = [
    # client → engine's port, past the gateway
    ("server", "user-dev", "engine"),
    ("server", "component-hostile", "engine"),
    ("server", "executor", "engine"),
    ("server", "registry", "engine"),
    # component, user → registry's port
    ("server", "component-hostile", "registry"),
    ("server", "user-dev", "registry"),
    # user, engine, executor, registry → executor's port
    ("executor", "user-dev", "executor"),
    ("executor", "engine", "executor"),
    ("executor", "executor", "executor"),
    ("executor", "registry", "executor"),
    # the gateway's certificate alone says nobody
    ("server", "gateway", "engine"),
    ("server", "gateway", "registry"),
    ("executor", "gateway", "executor"),
]


@pytest.mark.parametrize(("process", "stem", "service"), LINKS)
def test_a_valid_certificate_of_another_role_is_refused(
    house: House, process: str, stem: str, service: str
) -> None:
    house.authority.leaf("/registry")
    # Only the gateway is believed when it says who calls.
    forged = [] if stem == "gateway" else [("x-bend-peer", ENGINE), ("x-bend-listener", "http")]
    with (
        house.channel(house.mesh.address(process), stem) as channel,
        pytest.raises(grpc.RpcError) as refused,
    ):
        CALLS[service](channel, forged)
    assert refused.value.code() in REFUSED
    assert refused.value.details()


@pytest.mark.parametrize(
    ("stem", "service"),
    [
        ("user-dev", "executor"),  # a person's certificate serving components
        ("engine", "executor"),
        ("executor", "executor"),
        ("registry", "executor"),
        ("component-hostile", "engine"),
        ("component-hostile", "registry"),
        ("gateway", "engine"),
        ("engine", "registry"),
    ],
)
def test_the_gateway_lends_nobody_another_role(house: House, stem: str, service: str) -> None:
    """Who comes through the front door with a header that names somebody stays who it is."""
    house.authority.leaf("/registry")
    forged = [("x-bend-peer", "spiffe://bend.local/component/hostile"), ("x-bend-peer", ENGINE)]
    with (
        house.channel(house.gateway, stem) as channel,
        pytest.raises(grpc.RpcError) as refused,
    ):
        CALLS[service](channel, forged)
    assert refused.value.code() in REFUSED, refused.value
    assert refused.value.details()


def test_a_forged_peer_header_over_rest_changes_nothing(house: House) -> None:
    context = ssl.create_default_context(cafile=str(house.certs / "ca.pem"))
    context.load_cert_chain(
        house.certs / "component-hostile.pem", house.certs / "component-hostile.key"
    )
    with httpx.Client(base_url=house.https, verify=context) as client:
        for name in ("x-bend-peer", "X-BEND-PEER", "x-bend-listener", "x-forwarded-client-cert"):
            answer = client.get("/v1/workflows", headers={name: "spiffe://bend.local/user/dev"})
            assert answer.status_code == 403
            error = answer.json()
            assert error["details"][0]["reason"] == "PERMISSION_DENIED"
            assert "/component/hostile" in error["message"]


def past() -> datetime.datetime:
    """Return a time in which certificates were issued that are no longer valid."""
    return datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=60)


@pytest.fixture(scope="module")
def strangers(house: House, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders with certificates of all roles: expired ones of our own authority, and others'."""
    expired = tmp_path_factory.mktemp("expired")
    for name in ("ca.pem", "ca.key"):
        (expired / name).write_bytes((house.certs / name).read_bytes())
        (expired / name).chmod(0o600)
    foreign = tmp_path_factory.mktemp("foreign")
    authorities = (Authority(expired, clock=past), Authority(foreign))
    for authority in authorities:
        for path in ("/engine", "/executor", "/gateway", "/bench", "/user/dev"):
            authority.leaf(path)
    return {"expired": expired, "foreign": foreign}


@pytest.mark.parametrize("kind", ["none", "expired", "foreign"])
@pytest.mark.parametrize("process", ["server", "executor"])
def test_no_expired_and_foreign_certificates_open_no_port_of_the_mesh(
    house: House, strangers: dict[str, Path], process: str, kind: str
) -> None:
    stem = None if kind == "none" else "gateway"
    call = CALLS["engine" if process == "server" else "executor"]
    with (
        house.channel(house.mesh.address(process), stem, strangers.get(kind)) as channel,
        pytest.raises(grpc.RpcError) as refused,
    ):
        call(channel, [("x-bend-peer", "spiffe://bend.local/user/dev")])
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("kind", ["expired", "foreign"])
def test_expired_and_foreign_certificates_do_not_open_the_front_door(
    house: House, strangers: dict[str, Path], kind: str
) -> None:
    context = ssl.create_default_context(cafile=str(house.certs / "ca.pem"))
    folder = strangers[kind]
    context.load_cert_chain(folder / "user-dev.pem", folder / "user-dev.key")
    with httpx.Client(verify=context) as client, pytest.raises(httpx.TransportError):
        client.get(f"{house.https}/v1/workflows")


def test_the_front_door_without_a_certificate_asks_for_proof(house: House) -> None:
    context = ssl.create_default_context(cafile=str(house.certs / "ca.pem"))
    with httpx.Client(base_url=house.https, verify=context) as client:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"x-bend-listener": "http"}):
            answer = client.get("/v1/workflows", headers=headers)
            assert answer.status_code == 401
            assert answer.json()["details"][0]["reason"] == "UNAUTHENTICATED"


@pytest.mark.parametrize("stem", ["component-hostile", "user-dev", "bench", "gateway"])
@in_loop
async def test_certificates_without_business_on_nats_are_refused(house: House, stem: str) -> None:
    with pytest.raises((nats.errors.Error, OSError, TimeoutError)):
        async with house.nats(stem):
            pass


@pytest.mark.parametrize("kind", ["none", "expired", "foreign"])
@in_loop
async def test_no_expired_and_foreign_certificates_open_nats(
    house: House, strangers: dict[str, Path], kind: str
) -> None:
    with pytest.raises((nats.errors.Error, OSError, TimeoutError)):
        async with house.nats(None if kind == "none" else "engine", strangers.get(kind)):
            pass


@pytest.mark.parametrize(
    "subject", ["tasks.x", "engine.command.0", "executor.cancel", "$JS.API.STREAM.PURGE.RESULTS"]
)
@in_loop
async def test_an_executor_may_not_speak_as_the_engine(house: House, subject: str) -> None:
    told: list[str] = []
    async with house.nats("executor", told=told) as link:

        async def speak() -> None:
            await link.publish(subject, b"x")
            await link.flush(30)

        assert "permissions violation" in await complaint(told, speak)
