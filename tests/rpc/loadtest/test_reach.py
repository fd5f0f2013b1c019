"""How the generator gets at a target: TLS with and without HTTP/2, and IPv6."""

import asyncio
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from loadtest.load.client import Target
from loadtest.load.clients import open_client
from loadtest.load.emitter import Http1, Http2, Pace
from loadtest.load.record import OK, Record
from loadtest.load.runner import Clock
from tests.rpc.loadtest.conftest import GAP_S, requests


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One for 127.0.0.1 that signs itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    file, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=weft"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(file)),
        ],
        check=True,
        capture_output=True,
    )
    return file, key


@asynccontextmanager
async def _emitter(transport: str, host: str, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    pace = Pace(GAP_S)
    maker: Callable[[], asyncio.Protocol] = partial(Http2 if transport == "grpc" else Http1, pace)
    server = await asyncio.get_running_loop().create_server(maker, host, 0, ssl=tls)
    task = asyncio.create_task(pace.run())
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        task.cancel()
        await asyncio.wait([task])
        server.close()


async def _ask(transport: str, target: Target) -> Record:
    client = open_client(transport, target, Clock())
    await client.open()
    ended: asyncio.Future[Record] = asyncio.get_running_loop().create_future()
    try:
        client.send(Record(requests(1, 4)[0]), ended.set_result)
        async with asyncio.timeout(10):
            return await ended
    finally:
        await client.close()
        await asyncio.sleep(0.01)


def _context(certificate: tuple[Path, Path], *protocols: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    if protocols:
        context.set_alpn_protocols(protocols)
    return context


@pytest.mark.parametrize("transport", ["grpc", "openai"])
async def test_answers_come_over_tls(certificate: tuple[Path, Path], transport: str) -> None:
    async with _emitter(transport, "127.0.0.1", _context(certificate, "h2", "http/1.1")) as port:
        record = await _ask(transport, Target("127.0.0.1", port, ca_file=str(certificate[0]), timeout_s=10.0))
    assert (record.code, record.tokens) == (OK, 4)


async def test_a_server_without_http2_is_named(certificate: tuple[Path, Path]) -> None:
    async with _emitter("grpc", "127.0.0.1", _context(certificate)) as port:
        with pytest.raises(OSError, match="HTTP/2"):
            await _ask("grpc", Target("127.0.0.1", port, ca_file=str(certificate[0])))


@pytest.mark.parametrize("transport", ["grpc", "openai"])
async def test_a_certificate_that_nobody_trusts(certificate: tuple[Path, Path], transport: str) -> None:
    async with _emitter(transport, "127.0.0.1", _context(certificate, "h2", "http/1.1")) as port:
        with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
            await _ask(transport, Target("127.0.0.1", port, tls=True))


@pytest.mark.parametrize("transport", ["grpc", "openai"])
async def test_answers_come_over_ipv6(transport: str) -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    async with _emitter(transport, "::1") as port:
        record = await _ask(transport, Target("::1", port, timeout_s=10.0))
    assert (record.code, record.tokens) == (OK, 4)
