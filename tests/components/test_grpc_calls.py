"""The grpc component against a real server whose service nobody compiled."""

import asyncio
import base64
from pathlib import Path
from typing import Any

import grpc
import pytest

from bend import RetryableError, TerminalError
from bend.errors import ComponentError, ConfigurationError
from bend_executors import configuration
from bend_executors.grpc import GrpcComponent, Options, options
from bend_executors.grpc.descriptors import Catalog, names, parse_set
from bend_executors.grpc.links import CATALOG_BYTES_MAX, CATALOGS_MAX, Catalogs, place
from bend_executors.reach import Allowance
from tests.components.calls import Call, call, documented
from tests.components.grpc_server import Shop, descriptor_set, retry_info, serving
from tests.kit.certificates import TestAuthority

LOOPBACK = Allowance(["127.0.0.0/8", "::1/128"])
ECHO, WATCH, FAIL = "shop.v1.Shop/Echo", "shop.v1.Shop/Watch", "shop.v1.Shop/Fail"
SET = base64.b64encode(descriptor_set()).decode()


def ask(method: str = ECHO, shop: Shop | None = None, reflections: str = "v1", **more: Any) -> Call:
    """Call the shop once on a fresh server."""
    bounds = {"allow": LOOPBACK} | more.pop("options", {})
    about = {k: more.pop(k) for k in ("timeout_s", "namespace") if k in more}

    async def use() -> Call:
        async with serving(shop or Shop(), reflections=reflections) as port:
            component = GrpcComponent(Options(**bounds))
            values = {"target": f"127.0.0.1:{port}", "method": method, "tls": False} | more
            try:
                return await call(component.invoke, values, **about)
            finally:
                await component.close()
                assert component.stats() == {"channels": 0, "calls": 0}

    return asyncio.run(use())


def refusal(method: str = ECHO, shop: Shop | None = None, **more: Any) -> ComponentError:
    """Call the shop once; return the error."""
    with pytest.raises(ComponentError) as caught:
        ask(method, shop, **more)
    return caught.value


@pytest.mark.parametrize("reflections", ["v1", "v1alpha"])
def test_a_message_goes_and_comes_as_json(reflections: str) -> None:
    body = {
        "orderId": "a",
        "amount_cents": 2**60,
        "placedAt": "2026-01-02T03:04:05Z",
        "lines": [{"sku": "x", "count": 2}],
        "note": "AAE=",
    }
    assert ask(reflections=reflections, body=body).output == {
        "orderId": "a",
        "amountCents": str(2**60),
        "placedAt": "2026-01-02T03:04:05Z",
        "lines": [{"sku": "x", "count": 2}],
        "note": "AAE=",
    }


def test_names_of_the_proto_and_defaults_are_a_choice() -> None:
    made = ask(body={"orderId": "a"}, proto_names=True, defaults=True)
    assert made.output == {
        "order_id": "a",
        "amount_cents": "0",
        "lines": [],
        "note": "",
    }


def test_a_descriptor_set_needs_no_reflection() -> None:
    assert ask(reflections="", descriptor_set=SET, body={"orderId": "a"}).output == {"orderId": "a"}
    error = refusal(reflections="")
    assert (error.reason, error.retryable) == ("NO_REFLECTION", False)


@pytest.mark.parametrize(
    ("collect", "expected"),
    [
        ("all", [{"orderId": "o0"}, {"orderId": "o1"}, {"orderId": "o2"}]),
        ("last", {"orderId": "o2"}),
        ("count", 3),
    ],
)
def test_a_streams_messages_are_partial_outputs(collect: str, expected: Any) -> None:
    made = ask(WATCH, body={"amountCents": 3}, collect=collect)
    assert made.partials == [{"orderId": "o0"}, {"orderId": "o1"}, {"orderId": "o2"}]
    assert made.output == expected


def test_an_empty_stream_has_an_output() -> None:
    assert ask(WATCH, collect="last").output is None
    assert ask(WATCH).output == []


@pytest.mark.parametrize("method", ["shop.v1.Shop/Upload", "shop.v1.Shop/Talk"])
def test_methods_that_take_a_stream_are_refused(method: str) -> None:
    error = refusal(method)
    assert error.reason == "METHOD_NOT_SUPPORTED"
    assert method in error.message


@pytest.mark.parametrize(
    ("method", "text"),
    [
        ("shop.v1.Shop/Ecko", "did you mean Echo"),
        ("shop.v1.Shopp/Echo", "shop.v1.Shopp"),
        ("no.Such/Thing", "no.Such"),
    ],
)
def test_a_method_that_is_not_there_names_what_is_near(method: str, text: str) -> None:
    error = refusal(method)
    assert (error.reason, error.retryable) == ("METHOD_NOT_FOUND", False)
    assert text in error.message
    assert "did you mean shop.v1.Shop" in refusal("shop.v1.Shopp/Echo", descriptor_set=SET).message


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"ordreId": "a"}, "body.ordreId"),
        ({"amountCents": "many"}, "body.amountCents"),
        ({"lines": [{"sku": 3}]}, "body.lines.sku"),
        ({"placedAt": "soon"}, "body.placedAt"),
    ],
)
def test_an_input_that_does_not_fit_names_method_and_field(
    body: dict[str, Any], field: str
) -> None:
    error = refusal(body=body)
    assert error.reason == "INVALID_INPUT"
    assert ECHO in error.message
    assert field in error.message


def test_metadata_and_the_deadline_are_passed_on() -> None:
    shop = Shop()
    ask(shop=shop, metadata={"X-Tenant": "t1"}, timeout_s=70.0)
    [(metadata, left)] = shop.seen
    assert metadata["x-tenant"] == "t1"
    assert metadata["idempotency-key"] == "default/e-1/t/-1/0"
    assert "bend-grpc" in metadata["user-agent"]
    # Deadlines are rounded up on their way.
    assert 10.0 < left <= 71.0


def test_a_server_that_does_not_answer_in_time_is_tried_again() -> None:
    error = refusal("shop.v1.Shop/Hang", timeout_s=0.5)
    assert (error.reason, error.retryable) == ("GRPC_DEADLINE_EXCEEDED", True)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("grpc-timeout", "1n"),
        ("grpc-status-details-bin", "AA"),
        ("x-anything-bin", "AA"),
        (":authority", "evil"),
        ("host", "evil"),
        ("content-type", "text/plain"),
        ("te", "trailers"),
        ("a b", "x"),
        ("x", "a\r\nb: c"),
        ("x", "é"),
        ("x", "a" * 5000),
    ],
)
def test_metadata_of_the_protocols_own_is_refused(key: str, value: str) -> None:
    error = refusal(metadata={key: value})
    assert error.reason == "INVALID_INPUT"
    assert "evil" not in error.message


CODES = {
    grpc.StatusCode.UNAVAILABLE: True,
    grpc.StatusCode.RESOURCE_EXHAUSTED: True,
    grpc.StatusCode.ABORTED: True,
    grpc.StatusCode.INTERNAL: True,
    grpc.StatusCode.UNKNOWN: True,
    grpc.StatusCode.INVALID_ARGUMENT: False,
    grpc.StatusCode.NOT_FOUND: False,
    grpc.StatusCode.FAILED_PRECONDITION: False,
    grpc.StatusCode.PERMISSION_DENIED: False,
    grpc.StatusCode.UNAUTHENTICATED: False,
    grpc.StatusCode.UNIMPLEMENTED: False,
    grpc.StatusCode.DATA_LOSS: False,
}


@pytest.mark.parametrize(("code", "retryable"), CODES.items(), ids=lambda x: getattr(x, "name", ""))
def test_a_status_becomes_a_reason(code: grpc.StatusCode, retryable: bool) -> None:
    shop = Shop()
    shop.code = code
    error = refusal(FAIL, shop)
    assert (error.reason, error.retryable) == (f"GRPC_{code.name}", retryable)
    assert error.details == {"code": code.name, "method": FAIL}
    assert "no stock" in error.message


def test_a_server_says_when_to_come_again() -> None:
    shop = Shop()
    shop.trailing = (retry_info(9),)
    error = refusal(FAIL, shop)
    assert error.retry_after_s == 9.0
    assert isinstance(error.details, dict)
    assert error.details["details"] == [{"type": "ErrorInfo", "reason": "EMPTY", "domain": "shop"}]
    shop.trailing = (("grpc-retry-pushback-ms", "1500"),)
    assert refusal(FAIL, shop).retry_after_s == 1.5
    shop.trailing = (("grpc-retry-pushback-ms", "-1"),)
    assert not refusal(FAIL, shop).retryable
    shop.trailing = (("grpc-status-details-bin", b"\xff\xff"),)
    assert refusal(FAIL, shop).retryable


def test_sizes_are_bounded() -> None:
    note = base64.b64encode(b"x" * 5000).decode()
    error = refusal(body={"note": note}, options={"response_bytes_max": 1000})
    assert (error.reason, error.retryable) == ("RESPONSE_TOO_LARGE", False)
    assert refusal(body={"note": note}, response_bytes_max=1000).reason == "RESPONSE_TOO_LARGE"
    error = refusal(WATCH, body={"note": note, "amountCents": 9}, response_bytes_max=20_000)
    assert error.reason == "RESPONSE_TOO_LARGE"


def test_the_guard_holds() -> None:
    error = refusal(options={"allow": Allowance([])})
    assert error.reason == "ADDRESS_REFUSED"
    for target in ("169.254.169.254:80", "0x7f000001:80", "localhost:80", "[::ffff:10.0.0.1]:80"):
        assert refusal(target=target, options={"allow": Allowance([])}).reason == "ADDRESS_REFUSED"


@pytest.mark.parametrize(
    "target",
    ["host", "host:", "host:0", "host:70000", ":80", "dns:///a:80", "unix:/a", "unix:80", "::1:80"],
)
def test_only_hosts_and_ports_are_targets(target: str) -> None:
    if target == "unix:80":
        # A host of this name is resolved as one: nothing is read as a scheme.
        assert place(target) == ("unix", 80)
        return
    assert refusal(target=target).reason == "INVALID_INPUT"


@pytest.mark.parametrize("text", ["", "Echo", "/Echo", "a.b/", "a b/C", "a/b/C", "a.B/C\n"])
def test_only_services_and_methods_are_methods(text: str) -> None:
    with pytest.raises(TerminalError, match=r"package\.Service/Method"):
        names(text)
    assert names("/a.B/C") == names("a.B.C") == ("a.B", "C")


@pytest.mark.parametrize("text", ["%%%", base64.b64encode(b"\xff\xff").decode(), "Cg=="])
def test_a_broken_descriptor_set_is_refused(text: str) -> None:
    assert refusal(descriptor_set=text).reason in {"INVALID_INPUT", "INVALID_DESCRIPTOR"}


def test_a_dead_server_is_tried_again() -> None:
    async def use() -> None:
        async with serving(Shop()) as port:
            pass
        component = GrpcComponent(Options(allow=LOOPBACK))
        values = {"target": f"127.0.0.1:{port}", "method": ECHO, "tls": False}
        try:
            await call(component.invoke, values)
        finally:
            await component.close()

    with pytest.raises(RetryableError) as caught:
        asyncio.run(use())
    assert caught.value.reason == "GRPC_UNAVAILABLE"


def test_channels_and_descriptions_are_kept_and_bounded() -> None:
    async def use() -> None:
        first, second = Shop(), Shop()
        component = GrpcComponent(Options(allow=LOOPBACK, channels_max=1))
        async with serving(first) as a, serving(second) as b:
            values = {"method": ECHO, "tls": False}
            for _ in range(20):
                await call(component.invoke, values | {"target": f"127.0.0.1:{a}"})
            assert first.reflections == 1
            assert component.stats() == {"channels": 1, "calls": 0}
            await call(component.invoke, values | {"target": f"127.0.0.1:{b}"})
            assert component.stats() == {"channels": 1, "calls": 0}
            await call(component.invoke, values | {"target": f"127.0.0.1:{a}"})
            assert first.reflections == 2
        await component.close()

    asyncio.run(use())


def test_what_is_known_of_services_is_bounded_in_bytes() -> None:
    files = parse_set(descriptor_set())
    catalogs = Catalogs()
    for number in range(1000):
        catalogs.keep((number % 7, f"s{number}"), Catalog(files))
    assert len(catalogs) == CATALOGS_MAX
    large = Catalog(files)
    large.size = CATALOG_BYTES_MAX
    catalogs.keep((9, "large"), large)
    assert len(catalogs) == 1
    assert catalogs.get((9, "large")) is large
    catalogs.leave(9)
    assert len(catalogs) == 0


def test_a_description_that_does_not_hold_together_is_refused() -> None:
    shop, lines = parse_set(descriptor_set())
    with pytest.raises(TerminalError, match=r"lines\.proto is imported and not there"):
        Catalog([shop])
    lines.dependency.append("shop/v1/shop.proto")
    with pytest.raises(TerminalError, match="imports itself"):
        Catalog([shop, lines])
    del lines.dependency[:]
    lines.message_type[0].field[0].type_name = ".no.Such"
    with pytest.raises(TerminalError) as caught:
        Catalog([shop, lines])
    assert caught.value.reason == "INVALID_DESCRIPTOR"


def test_tls_with_an_authority_and_a_client_certificate_of_the_operators(tmp_path: Path) -> None:
    authority = TestAuthority(tmp_path / "ca")
    certificate, key = authority.issue(None, file="server")
    client, client_key = authority.issue("/user/bend")
    tls = grpc.ssl_server_credentials(
        [(key.read_bytes(), certificate.read_bytes())], authority.ca.read_bytes(), True
    )
    (tmp_path / "shop.binpb").write_bytes(descriptor_set())

    async def use() -> None:
        shop = Shop()
        async with serving(shop, reflections="", tls=tls) as port:
            text = f"""
grpc:
  connections:
    shop:
      target: localhost:{port}
      ca_file: {authority.ca}
      cert_file: {client}
      key_file: {client_key}
      descriptor_set_file: {tmp_path / "shop.binpb"}
      metadata: {{authorization: {{secret: SHOP}}}}
      namespaces: [default]
    stranger: {{target: "localhost:{port}"}}
"""
            (tmp_path / "components.yaml").write_text(text, encoding="utf-8")
            environment = {"BEND_HOME": str(tmp_path), "BEND_SECRET_SHOP": "Bearer s3cret"}
            section = configuration.load(environment).section("grpc")
            component = GrpcComponent(options.read(environment, section))
            section.done()
            values = {"method": ECHO, "connection": "shop", "body": {"orderId": "a"}}
            values["metadata"] = {"authorization": "mine"}
            assert (await call(component.invoke, values)).output == {"orderId": "a"}
            assert shop.seen[0][0]["authorization"] == "Bearer s3cret"
            for name, namespace in (("shop", "other"), ("nothing", "default")):
                with pytest.raises(TerminalError) as caught:
                    await call(component.invoke, values | {"connection": name}, namespace=namespace)
                assert caught.value.reason == "CONNECTION_NOT_FOUND"
            with pytest.raises(RetryableError) as failed:
                await call(component.invoke, values | {"connection": "stranger"}, timeout_s=5)
            assert failed.value.reason == "GRPC_UNAVAILABLE"
            await component.close()

    asyncio.run(use())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("grpc: {connections: {a: {}}}\n", "'target' is missing"),
        ("grpc: {connections: {a: {target: 'a:1', ca_file: /no/such}}}\n", "ca_file"),
        ("grpc: {connections: {a: {target: 'a:1', colour: red}}}\n", "unknown key 'colour'"),
        ("grpc: {channels_max: 0}\n", "channels_max: at least 1"),
    ],
)
def test_wrong_settings_name_their_key(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "components.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=message):
        options.read({}, configuration.load({"BEND_HOME": str(tmp_path)}).section("grpc"))


def test_target_and_connection_exclude_each_other() -> None:
    assert refusal(connection="x").reason == "INVALID_INPUT"
    assert refusal(target="").reason == "INVALID_INPUT"


def test_the_examples_of_the_readme_run() -> None:
    tasks = documented("grpc")
    assert len(tasks) >= 2

    async def use() -> None:
        async with serving(Shop()) as port:
            component = GrpcComponent(Options(allow=LOOPBACK))
            for task in tasks:
                assert task["type"] == "grpc"
                values = {k: v for k, v in task.items() if k not in {"id", "type", "timeout"}}
                values |= {"target": f"127.0.0.1:{port}", "tls": False}
                made = await call(component.invoke, values)
                assert made.output
            await component.close()

    asyncio.run(use())
