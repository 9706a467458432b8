"""TLS and SASL of the operator's file: rendered for librdkafka, refused when they cannot work."""

import asyncio
import os
import ssl
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka import Producer

from bend import RetryableError, TerminalError
from bend.errors import ConfigurationError
from bend_executors import configuration
from bend_executors.kafka import KafkaComponent
from bend_executors.kafka.clusters import Cluster, read_clusters
from tests.components.calls import call
from tests.components.kafka_broker import Brokers
from tests.kit.certificates import TestAuthority

FAR = "broker-1.example:9093,broker-2.example:9093"
PASSWORD = {"mechanism": "SCRAM-SHA-512", "user": "bend", "password": {"secret": "KAFKA"}}
TOKEN = {
    "url": "https://login.example/token",
    "client_id": "bend",
    "client_secret": "hunter2",
    "scope": "kafka",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A CA, a certificate and its key."""
    folder = tmp_path_factory.mktemp("kafka-certificates")
    TestAuthority(folder).issue("/component/kafka", file="kafka")
    return {
        "ca": str(folder / "ca.pem"),
        "certificate": str(folder / "kafka.pem"),
        "key": str(folder / "kafka.key"),
    }


def cluster(folder: Path, security: dict[str, Any], **more: Any) -> Cluster:
    """Read one cluster as the component's configuration does."""
    one = {"bootstrap": FAR, "topics": ["*"], "security": security} | more
    (folder / "components.yaml").write_text(yaml.safe_dump({"kafka": {"clusters": {"far": one}}}))
    environment = {"BEND_HOME": str(folder), "BEND_SECRET_KAFKA": "hunter2"}
    section = configuration.load(environment).section("kafka")
    return read_clusters(section)["far"]


def accepted(settings: Cluster) -> None:
    """Let librdkafka judge the settings; nobody is reached, and nothing is said about it."""
    Producer({**settings.settings, "log_level": 0, "bootstrap.servers": "127.0.0.1:1"})


def test_tls_with_a_certificate(tmp_path: Path, files: dict[str, str]) -> None:
    found = cluster(tmp_path, dict(files))
    rendered = {
        "security.protocol": "SSL",
        "ssl.ca.location": files["ca"],
        "ssl.certificate.location": files["certificate"],
        "ssl.key.location": files["key"],
        "ssl.endpoint.identification.algorithm": "https",
    }
    assert rendered.items() <= dict(found.settings).items()
    accepted(found)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_sasl_with_a_password(tmp_path: Path, mechanism: str) -> None:
    found = cluster(tmp_path, {"protocol": "sasl_ssl"} | PASSWORD | {"mechanism": mechanism})
    rendered = {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": mechanism,
        "sasl.username": "bend",
        "sasl.password": "hunter2",
    }
    assert rendered.items() <= dict(found.settings).items()
    assert "hunter2" not in repr(found)
    accepted(found)


def test_sasl_with_a_token(tmp_path: Path) -> None:
    security = {"protocol": "SASL_SSL", "mechanism": "OAUTHBEARER", "token": TOKEN}
    found = cluster(tmp_path, security)
    rendered = {
        "sasl.mechanism": "OAUTHBEARER",
        "sasl.oauthbearer.method": "oidc",
        "sasl.oauthbearer.token.endpoint.url": "https://login.example/token",
        "sasl.oauthbearer.client.id": "bend",
        "sasl.oauthbearer.client.secret": "hunter2",
        "sasl.oauthbearer.scope": "kafka",
    }
    assert rendered.items() <= dict(found.settings).items()
    accepted(found)


def test_what_every_producer_has(tmp_path: Path) -> None:
    found = dict(cluster(tmp_path, {}).settings)
    assert found["security.protocol"] == "SSL"
    assert (found["enable.idempotence"], found["acks"]) == (True, "all")
    assert (found["compression.type"], found["linger.ms"]) == ("lz4", 5)


@pytest.mark.parametrize(
    ("security", "message"),
    [
        ({"protocol": "TLS"}, "security.protocol: one of"),
        ({"protocol": "PLAINTEXT"}, "security.protocol: PLAINTEXT sends all in the clear"),
        ({"protocol": "SASL_PLAINTEXT"} | PASSWORD, "SASL_PLAINTEXT sends all in the clear"),
        ({"ca": "missing.pem"}, "security.ca: missing.pem is no file"),
        ({"certificate": "missing.pem", "key": "x"}, "security.certificate: missing.pem is no"),
        ({"key": "only.key"}, "security.key: a certificate and its key belong together"),
        ({"key_password": "x"}, "security.key_password: there is no key"),
        ({"protocol": "SASL_SSL"}, "security.mechanism: one of PLAIN"),
        ({"protocol": "SASL_SSL", "mechanism": "GSSAPI"}, "security.mechanism: one of PLAIN"),
        ({"protocol": "SASL_SSL", "mechanism": "PLAIN"}, "security.user: is missing"),
        (
            {"protocol": "SASL_SSL", "mechanism": "PLAIN", "user": "a"},
            "security.password: is missing",
        ),
        (
            {
                "protocol": "SASL_SSL",
                "mechanism": "PLAIN",
                "user": "a",
                "password": {"secret": "NONE"},
            },
            "there is no secret NONE",
        ),
        (
            {"protocol": "SASL_SSL", "mechanism": "OAUTHBEARER"},
            "security.token.url: an https URL",
        ),
        (
            {
                "protocol": "SASL_SSL",
                "mechanism": "OAUTHBEARER",
                "token": TOKEN | {"url": "http://login.example/token"},
            },
            "security.token.url: an https URL",
        ),
        (
            {
                "protocol": "SASL_SSL",
                "mechanism": "OAUTHBEARER",
                "token": {"url": "https://login.example/token", "client_id": "a"},
            },
            "security.token.client_secret: is missing",
        ),
        ({"user": "bend"}, "security.user: has no meaning with the protocol SSL"),
        ({"colour": "red"}, "security.colour: has no meaning"),
    ],
)
def test_mistakes_name_their_place(tmp_path: Path, security: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        cluster(tmp_path, security)
    assert message in str(caught.value)
    assert "clusters.far" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"topics": []}, "topics: a list of names"),
        ({"bootstrap": "broker"}, "bootstrap: HOST:PORT is wanted"),
        ({"bootstrap": "http://broker:9092"}, "bootstrap: HOST:PORT is wanted"),
        ({"compression": "zip"}, "compression: one of"),
        ({"linger_ms": -1}, "linger_ms: 0 to"),
        ({"delivery_timeout": 0}, "delivery_timeout: seconds"),
        ({"acks": 1}, "unknown key 'acks'"),
    ],
)
def test_other_mistakes_name_their_place(
    tmp_path: Path, more: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        cluster(tmp_path, {}, **more)
    assert message in str(caught.value)


def test_plain_text_on_loopback_and_where_the_operator_says_so(tmp_path: Path) -> None:
    for bootstrap in ("127.0.0.1:9092", "localhost:9092,[::1]:9092"):
        cluster(tmp_path, {"protocol": "PLAINTEXT"}, bootstrap=bootstrap)
    with pytest.raises(ConfigurationError, match="in the clear"):
        cluster(tmp_path, {"protocol": "PLAINTEXT"}, bootstrap="127.0.0.1:9092,10.0.0.1:9092")
    cluster(tmp_path, {"protocol": "SASL_PLAINTEXT", "plaintext_allowed": True} | PASSWORD)


def test_a_ca_that_is_none_fails_the_task_and_says_so(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_bytes(os.urandom(64))
    component = KafkaComponent({"far": cluster(tmp_path, {"ca": str(wrong)})})
    given = {"cluster": "far", "topic": "t", "value": 1}
    with pytest.raises(TerminalError, match=r"ssl\.ca\.location") as caught:
        asyncio.run(call(component.publish, given))
    component.close()
    assert caught.value.reason == "KAFKA_CONFIGURATION"


def test_brokers_with_tls_are_not_spoken_to_in_the_clear(
    tmp_path: Path, files: dict[str, str]
) -> None:
    """A listener without TLS is no broker to a cluster that wants it: the task says why."""

    async def run() -> str:
        async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(greet, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        # A busy machine may need longer to learn why.
        for delivery_s in (0.5, 5.0, 40.0):
            settings = cluster(
                tmp_path,
                {"ca": files["ca"]},
                bootstrap=f"127.0.0.1:{port}",
                delivery_timeout=delivery_s,
            )
            component = KafkaComponent({"far": settings})
            with pytest.raises(RetryableError) as caught:
                await call(component.publish, {"cluster": "far", "topic": "t", "value": 1})
            await asyncio.to_thread(component.close)
            if "_SSL" in str(caught.value):
                break
        server.close()
        assert "_SSL" in str(caught.value)
        return caught.value.reason

    assert asyncio.run(run()) == "KAFKA_TIMEOUT"


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry bytes one way until the end."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except (ConnectionError, ssl.SSLError):
        pass
    finally:
        writer.close()


async def gate(files: dict[str, str], broker: str) -> tuple[asyncio.Server, int]:
    """Serve TLS, for clients with a certificate only, before a broker that speaks none."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=files["ca"])
    context.load_cert_chain(files["certificate"], files["key"])
    context.verify_mode = ssl.CERT_REQUIRED
    host, _, port = broker.partition(":")

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(host, int(port))
        await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))

    server = await asyncio.start_server(pass_on, "127.0.0.1", 0, ssl=context)
    return server, server.sockets[0].getsockname()[1]


@pytest.mark.parametrize("with_certificate", [True, False])
def test_a_broker_behind_mutual_tls(
    tmp_path: Path, files: dict[str, str], with_certificate: bool
) -> None:
    async def run() -> Any:
        brokers = Brokers(1)
        server, port = await gate(files, brokers.bootstrap)
        brokers.move("127.0.0.1", port)
        security = dict(files) if with_certificate else {"ca": files["ca"]}
        settings = cluster(
            tmp_path,
            security,
            bootstrap=f"127.0.0.1:{port}",
            delivery_timeout=60 if with_certificate else 0.7,
        )
        component = KafkaComponent({"far": settings})
        try:
            given = {"cluster": "far", "topic": "t", "value": 1}
            return (await call(component.publish, given)).output["count"]
        finally:
            await asyncio.to_thread(component.close)
            server.close()
            brokers.close()

    if with_certificate:
        assert asyncio.run(run()) == 1
    else:
        with pytest.raises(RetryableError) as caught:
            asyncio.run(run())
        assert caught.value.reason == "KAFKA_TIMEOUT"
