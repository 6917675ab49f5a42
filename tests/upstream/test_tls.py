"""TLS to providers: verified before a byte of the request is sent, named by SNI, resumed when it may be."""

import asyncio
import contextlib
import ssl
import warnings
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from sidecar.upstream.tls import client_context
from tests.support.certificates import DAY, NOW, Authority, self_signed
from tests.support.demo import QUESTION, STREAM
from tests.support.http1 import Answer, ask, client
from tests.support.raw import OK, post
from tests.support.running import config_for, running
from tests.support.waiting import until

ASK = post(orjson.dumps(QUESTION), close=False)


class TlsProvider:
    """A TLS server that keeps what it decrypted, which names it was asked for, how handshakes went."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.decrypted = bytearray()
        self.names: list[str | None] = []
        self.reused: list[bool] = []
        self.versions: list[str | None] = []
        self.url = ""
        self._context = context
        context.sni_callback = self._named
        self._server: asyncio.Server
        self._writers: set[asyncio.StreamWriter] = set()

    def _named(self, _object: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        self.names.append(name)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        wrapped = writer.get_extra_info("ssl_object")
        self.reused.append(wrapped.session_reused)
        self.versions.append(wrapped.version())
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while data := await reader.readuntil(b"}]}"):
                self.decrypted += data
                writer.write(OK)
        writer.close()

    async def hang_up(self) -> None:
        """Close every connection."""
        for writer in self._writers:
            writer.close()
        self._writers.clear()

    @contextlib.asynccontextmanager
    async def serving(self, host: str = "localhost") -> AsyncIterator["TlsProvider"]:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, _context: None)  # refused handshakes are what is tested
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        self.url = f"https://{host}:{self._server.sockets[0].getsockname()[1]}/v1"
        try:
            yield self
        finally:
            self._server.close()
            await self.hang_up()
            await self._server.wait_closed()
            loop.set_exception_handler(None)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def test_a_certificate_of_the_configured_authority_is_trusted(authority: Authority) -> None:
    async with TlsProvider(authority.server("localhost")).serving() as provider:
        tree = config_for(provider.url, provider={"tls": {"ca_file": authority.ca_file}})
        async with running(tree) as sidecar:
            assert (await ask(sidecar.port, ASK)).status == 200
    assert b"Bearer sk-provider-secret" in provider.decrypted
    assert provider.versions == ["TLSv1.3"]


def old_tls(authority: Authority, _folder: Path) -> ssl.SSLContext:
    context = authority.server("localhost")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # an old version is the point
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


WRONG: dict[str, Callable[[Authority, Path], ssl.SSLContext]] = {
    "wrong name": lambda authority, _: authority.server("other.example", "127.0.0.1"),
    "self-signed": lambda _, folder: self_signed(folder, "localhost"),
    "another authority": lambda _, folder: Authority(folder, "other.pem").server("localhost"),
    "expired": lambda authority, _: authority.server("localhost", not_after=NOW - DAY),
    "TLS 1.1 only": old_tls,
}
SAYS = {"TLS 1.1 only": "failed the TLS handshake"}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("question", [QUESTION, STREAM], ids=["plain", "stream"])
async def test_a_provider_that_does_not_prove_itself_gets_not_one_byte(
    authority: Authority, tmp_path: Path, wrong: str, question: dict[str, object]
) -> None:
    async with TlsProvider(WRONG[wrong](authority, tmp_path)).serving() as provider:
        tree = config_for(provider.url, provider={"tls": {"ca_file": authority.ca_file}})
        async with running(tree) as sidecar:
            answer = await ask(sidecar.port, post(orjson.dumps(question)))
            pool = sidecar.endpoint().pool
            await until(lambda: pool.open_count == 0)
    error = orjson.loads(answer.body)["error"]
    assert (answer.status, error["code"]) == (503, "upstream_unreachable")
    assert SAYS.get(wrong, "shows a certificate that does not verify") in error["message"]
    assert set(provider.names) <= {"localhost"}
    assert not provider.decrypted
    assert provider.versions == []


async def test_a_plain_server_where_tls_is_expected_gets_no_request(authority: Authority) -> None:
    received = bytearray()

    async def record(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.extend(await reader.read(65536))
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(record, "127.0.0.1", 0)
    url = f"https://localhost:{server.sockets[0].getsockname()[1]}/v1"
    async with server, running(config_for(url, provider={"tls": {"ca_file": authority.ca_file}})) as sidecar:
        answer = await ask(sidecar.port, ASK)
    assert answer.status == 503
    assert received.startswith(b"\x16\x03\x01")  # a TLS hello
    assert b"sk-provider" not in received
    assert b"POST" not in received


async def test_a_server_that_never_shakes_hands_is_given_up_after_the_connect_timeout() -> None:
    async def keep_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(keep_silent, "127.0.0.1", 0)
    url = f"https://localhost:{server.sockets[0].getsockname()[1]}/v1"
    async with server, running(config_for(url, provider={"timeouts": {"connect": "200ms"}})) as sidecar:
        answer = await ask(sidecar.port, ASK)
        assert answer.status == 503
        assert b"within 0.2 s" in answer.body
        await until(lambda: sidecar.endpoint().pool.open_count == 0)


@pytest.mark.parametrize("host", ["localhost", "eu.provider.example"])
async def test_the_server_name_sent_is_the_endpoints_own(
    authority: Authority, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve_to_loopback(monkeypatch, "eu.provider.example")
    async with TlsProvider(authority.server("localhost", "eu.provider.example")).serving(host) as provider:
        tree = config_for(provider.url, provider={"tls": {"ca_file": authority.ca_file}})
        async with running(tree) as sidecar:
            assert (await ask(sidecar.port, ASK)).status == 200
    assert provider.names == [host]


def resolve_to_loopback(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Dial this machine for a name that no resolver knows; the name is still the one TLS is about."""
    loop_type = type(asyncio.get_running_loop())
    create_connection = loop_type.create_connection

    async def connect(loop: Any, factory: Any, host: Any = None, port: Any = None, **options: Any) -> Any:
        return await create_connection(loop, factory, "127.0.0.1" if host == name else host, port, **options)

    monkeypatch.setattr(loop_type, "create_connection", connect)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
async def test_the_second_connection_resumes_the_session_of_the_first(
    authority: Authority, version: ssl.TLSVersion
) -> None:
    context = authority.server("localhost")
    context.minimum_version = context.maximum_version = version
    async with TlsProvider(context).serving() as provider:
        tree = config_for(provider.url, provider={"tls": {"ca_file": authority.ca_file}})
        async with running(tree) as sidecar, client(sidecar.port) as caller:
            for _ in range(3):
                caller.send(ASK)
                answer: Answer = await caller.answer()
                assert answer.status == 200
                await provider.hang_up()
                await until(lambda: sidecar.endpoint().pool.open_count == 0)
    assert provider.reused == [False, True, True]


async def test_a_session_the_server_has_forgotten_costs_no_request(authority: Authority) -> None:
    first, second = (TlsProvider(authority.server("localhost")) for _ in range(2))
    async with first.serving():
        port = int(first.url.split(":")[2].split("/")[0])
        tree = config_for(first.url, provider={"tls": {"ca_file": authority.ca_file}})
        async with running(tree) as sidecar:
            assert (await ask(sidecar.port, ASK)).status == 200
            await first.hang_up()
            await until(lambda: sidecar.endpoint().pool.open_count == 0)
            first._server.close()
            await first._server.wait_closed()
            second._server = await asyncio.start_server(second._serve, "127.0.0.1", port, ssl=second._context)
            assert (await ask(sidecar.port, ASK)).status == 200
            second._server.close()
            await second.hang_up()
    assert second.reused == [False]


def test_a_context_verifies_names_and_speaks_no_less_than_tls_1_2(authority: Authority) -> None:
    context = client_context(authority.ca_file)
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_an_authority_file_that_cannot_be_used_is_an_error(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(OSError):  # ssl.SSLError is one
        client_context(str(path))
