"""The certificate that is shown can be exchanged at any time, and only for one that works."""

import asyncio
import ssl
from collections.abc import AsyncIterator

import pytest

from sidecar.k8s.tls import Serving
from tests.k8s.pki import HOST, Authority, serial_of, shown_serial


class Server:
    """An echo server on the context under test."""

    def __init__(self) -> None:
        self.serving = Serving()
        self.port = 0
        self._server: asyncio.Server

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._echo, "127.0.0.1", 0, ssl=self.serving.context)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    started = Server()
    await started.start()
    yield started
    await started.stop()


async def test_a_new_connection_meets_the_current_certificate(authority: Authority, server: Server) -> None:
    for _ in range(3):
        pair = authority.pair()
        server.serving.use(*pair)
        assert await shown_serial(server.port, authority.client) == serial_of(pair[0])


async def test_an_open_connection_goes_on_through_a_change(authority: Authority, server: Server) -> None:
    server.serving.use(*authority.pair())
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", server.port, ssl=authority.client, server_hostname=HOST
    )
    for text in (b"before", b"after"):
        writer.write(text)
        assert await reader.readexactly(len(text)) == text
        server.serving.use(*authority.pair())
    writer.close()


async def test_a_certificate_with_another_kind_of_key_leaves_nothing_of_the_old_one(
    authority: Authority, server: Server
) -> None:
    server.serving.use(*authority.pair(rsa=True))
    pair = authority.pair()
    server.serving.use(*pair)
    picky = authority.client
    picky.maximum_version = ssl.TLSVersion.TLSv1_2
    picky.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await shown_serial(server.port, picky)
    picky.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    assert await shown_serial(server.port, picky) == serial_of(pair[0])


async def test_without_a_certificate_a_handshake_is_refused(authority: Authority, server: Server) -> None:
    before = server.serving.is_ready
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await shown_serial(server.port, authority.client)
    server.serving.use(*authority.pair())
    assert (before, server.serving.is_ready) == (False, True)
    assert await shown_serial(server.port, authority.client)


async def test_a_client_without_a_server_name_is_served(authority: Authority, server: Server) -> None:
    pair = authority.pair()
    server.serving.use(*pair)
    client = authority.client
    client.check_hostname = False
    assert await shown_serial(server.port, client, host="") == serial_of(pair[0])


async def test_tls_1_1_is_refused(authority: Authority, server: Server) -> None:
    server.serving.use(*authority.pair())
    assert server.serving.context.minimum_version == ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("fault", ["other key", "no key", "no certificate", "empty", "half", "locked key"])
async def test_what_does_not_work_is_refused_and_the_old_one_stays(
    fault: str, authority: Authority, server: Server
) -> None:
    good = authority.pair()
    server.serving.use(*good)
    chain, key = authority.pair()
    locked = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"
    bad = {
        "other key": (chain, authority.pair()[1]),
        "no key": (chain, b""),
        "no certificate": (key, key),
        "empty": (b"", b""),
        "half": (chain[: len(chain) // 8], key),
        "locked key": (chain, locked),
    }[fault]
    with pytest.raises(ValueError, match="certificate"):
        server.serving.use(*bad)
    assert await shown_serial(server.port, authority.client) == serial_of(good[0])
