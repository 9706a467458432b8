"""A client that runs for longer than its certificate presents the new one."""

import asyncio
import ssl
from pathlib import Path

from bend_server.certificates import Authority
from bend_server.tls import client_context
from tests.kit.certificates import TestAuthority
from tests.kit.loops import in_loop


def test_a_renewed_certificate_is_presented_from_the_next_connection_on(tmp_path: Path) -> None:
    authority = TestAuthority(tmp_path)
    authority.issue("/engine")
    certificate, key = authority.issue("/user/ada")
    context = client_context(tmp_path / "ca.pem", certificate, key)
    accepting = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tmp_path / "ca.pem")
    accepting.verify_mode = ssl.CERT_REQUIRED
    accepting.load_cert_chain(tmp_path / "engine.pem", tmp_path / "engine.key")
    seen: list[bytes] = []

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
        writer.close()

    @in_loop
    async def scenario() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=accepting)
        port = server.sockets[0].getsockname()[1]

        async def connect() -> bytes:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=context, server_hostname="localhost"
            )
            await reader.read()
            writer.close()
            return seen[-1]

        async with server:
            first = await connect()
            assert await connect() == first
            old_key = key.read_bytes()
            authority.issue("/user/ada")
            new_key = key.read_bytes()
            key.write_bytes(old_key)
            # Half renewed, as between two renames: the ones in use go on.
            assert await connect() == first
            key.write_bytes(new_key)
            renewed = await connect()
        assert renewed != first
        assert renewed == ssl.PEM_cert_to_DER_cert(certificate.read_text())

    scenario()


def test_the_strictest_python_takes_our_certificates(tmp_path: Path) -> None:
    """Python 3.13 and later check what RFC 5280 says, key identifiers among it, by default."""
    authority = Authority(tmp_path)
    server, client = authority.leaf("/engine"), authority.leaf("/user/dev")
    listens = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.ca_file)
    listens.verify_mode = ssl.CERT_REQUIRED
    listens.load_cert_chain(server.certificate, server.key)
    dials = ssl.create_default_context(cafile=authority.ca_file)
    dials.load_cert_chain(client.certificate, client.key)
    for context in (listens, dials):
        context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        dials.wrap_bio(back, there, server_hostname="localhost"),
        listens.wrap_bio(there, back, server_side=True),
    ]
    for turn in range(6):
        try:
            ends[turn % 2].do_handshake()
        except ssl.SSLWantReadError:
            continue
    uris = [value for kind, value in ends[1].getpeercert()["subjectAltName"] if kind == "URI"]
    assert uris == ["spiffe://bend.local/user/dev"]
