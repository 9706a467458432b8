"""Who the gateway says the client is, and whom it lets in."""

import ssl
from pathlib import Path

import httpx
import pytest

from tests.kit.certificates import TestAuthority
from tests.mesh.backend import Backend, backend
from tests.mesh.doors import Gateway, gateway

ENGINE = "spiffe://bend.local/engine"
FORGED = {
    "x-bend-peer": ENGINE,
    "X-Bend-Peer": ENGINE,
    "x-bend-listener": "http",
    "x-bend-anything": "1",
    "x-envoy-original-path": "/forged",
    "x-forwarded-client-cert": f"URI={ENGINE}",
}


def test_certificate_becomes_the_peer_and_forgeries_are_stripped(door: Gateway) -> None:
    with door.client("user-ada") as client:
        seen = client.get("/v1/workflows/w", headers=FORGED).json()
    assert seen["x-bend-peer"] == "spiffe://bend.local/user/ada"
    assert seen["x-bend-listener"] == "https"
    assert seen["x-envoy-original-path"] == "/v1/workflows/w"
    assert not {"x-bend-anything", "x-forwarded-client-cert"} & set(seen)


def test_client_without_certificate_is_nobody(door: Gateway) -> None:
    with door.client() as client:
        seen = client.get("/v1/workflows/w", headers={**FORGED, "authorization": "Bearer t"}).json()
    assert "x-bend-peer" not in seen
    assert seen["authorization"] == "Bearer t"


def test_loopback_door_says_so(door: Gateway) -> None:
    with door.plain() as client:
        seen = client.get("/v1/workflows/w", headers=FORGED).json()
    assert "x-bend-peer" not in seen
    assert seen["x-bend-listener"] == "http"


def test_certificate_of_another_authority_is_refused(door: Gateway, tmp_path: Path) -> None:
    stranger = TestAuthority(tmp_path / "other")
    certificate, key = stranger.issue("/engine")
    context = ssl.create_default_context(cafile=str(door.authority.ca))
    context.load_cert_chain(certificate, key)
    with httpx.Client(verify=context) as client, pytest.raises(httpx.TransportError):
        client.get(f"{door.https}/healthz")


def test_plaintext_on_the_https_door_is_refused(door: Gateway) -> None:
    with httpx.Client() as client, pytest.raises(httpx.TransportError):
        client.get(f"http://127.0.0.1:{door.settings.https_port}/healthz")


def test_page_of_another_origin_may_not_call(door: Gateway) -> None:
    with door.plain() as client:
        foreign = client.post("/v1/run", content=b"{}", headers={"origin": "http://evil.example"})
        sandbox = client.post("/v1/run", content=b"{}", headers={"origin": "null"})
        own = client.post("/v1/run", content=b"{}", headers={"origin": door.http})
    assert (foreign.status_code, sandbox.status_code, own.status_code) == (403, 403, 200)
    assert "access-control-allow-origin" not in own.headers


def test_loopback_door_answers_to_local_names_only(door: Gateway) -> None:
    """A name that somebody's DNS points at 127.0.0.1 would let a web page in."""
    with door.plain() as client:
        assert client.get("/healthz", headers={"host": "evil.example"}).status_code == 404
        port = door.settings.http_port
        assert client.get("/healthz", headers={"host": f"localhost:{port}"}).status_code == 200


def test_origins_that_are_allowed_get_cors(authority: TestAuthority, service: Backend) -> None:
    page = "https://app.example"
    with gateway(authority, service.port, cors_origins=(page,)) as door, door.plain() as client:
        preflight = client.options(
            "/v1/run", headers={"origin": page, "access-control-request-method": "POST"}
        )
        call = client.post("/v1/run", content=b"{}", headers={"origin": page})
        foreign = client.post("/v1/run", content=b"{}", headers={"origin": "https://app-example"})
    assert preflight.headers["access-control-allow-origin"] == page
    assert (call.status_code, call.headers["access-control-allow-origin"]) == (200, page)
    assert foreign.status_code == 403


@pytest.mark.parametrize("stem", ["executor", "component-x"])
def test_upstream_with_another_roles_certificate_gets_nothing(
    authority: TestAuthority, stem: str
) -> None:
    """Whoever can listen on the engine's port must still not be taken for the engine."""
    with (
        backend(authority, stem) as impostor,
        gateway(authority, impostor.port, ENGINE, wait=False) as door,
        door.plain() as client,
    ):
        assert client.get("/v1/workflows").status_code == 503
