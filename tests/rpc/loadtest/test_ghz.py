"""The real ghz against a server that wants TLS, a client certificate and a key."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import grpc
import grpc.aio
import psutil
import pytest

from loadtest.load.ghz import GhzFailed, GhzScenario, find_ghz, load, run
from loadtest.load.ghz_access import Access
from services.kit.errors import seconds_to_duration
from weft.router.v1 import router_pb2, router_pb2_grpc

SERVER_NAME = "api.example.test"
KEY = "secret-word"
TTFT_S = 0.007
TOKENS = 200
LIMIT_S = 60
WORKERS = GhzScenario("workers", "", "weft.router.v1.RouterService/ListWorkers", {})


class Router(router_pb2_grpc.RouterServiceServicer):
    """Answers those who have the key; each answer says that its first token came after TTFT_S."""

    def __init__(self) -> None:
        self.called = asyncio.Event()

    async def ListWorkers(
        self,
        request: router_pb2.ListWorkersRequest,
        context: grpc.aio.ServicerContext[router_pb2.ListWorkersRequest, router_pb2.ListWorkersResponse],
    ) -> router_pb2.ListWorkersResponse:
        if ("authorization", f"Bearer {KEY}") not in tuple(context.invocation_metadata() or ()):
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the key is missing")
        self.called.set()
        return router_pb2.ListWorkersResponse()

    async def StreamChat(
        self, request: router_pb2.StreamChatRequest, context: object
    ) -> AsyncIterator[router_pb2.StreamChatResponse]:
        yield router_pb2.StreamChatResponse(accepted={})
        for _ in range(request.sampling.max_tokens):
            yield router_pb2.StreamChatResponse(tokens={})
        yield router_pb2.StreamChatResponse(finished={"timing": {"ttft": seconds_to_duration(TTFT_S)}})


@pytest.fixture(scope="module")
def ghz() -> str:
    """Where it is."""
    try:
        return find_ghz()
    except GhzFailed as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with certificates that sign themselves, and their keys."""
    folder = tmp_path_factory.mktemp("tls")
    for name, host in (("server", SERVER_NAME), ("client", "client.test"), ("other", "other.test")):
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"),
                *("-addext", f"subjectAltName=DNS:{host}"),
                *("-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.pem")),
            ],
            check=True,
            capture_output=True,
        )
    return folder


@pytest.fixture
def router() -> Router:
    """What answers."""
    return Router()


@pytest.fixture
async def address(files: Path, router: Router) -> AsyncIterator[str]:
    """Where a router listens that wants a client certificate."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    router_pb2_grpc.add_RouterServiceServicer_to_server(router, server)
    credentials = grpc.ssl_server_credentials(
        [((files / "server.key").read_bytes(), (files / "server.pem").read_bytes())],
        root_certificates=(files / "client.pem").read_bytes(),
        require_client_auth=True,
    )
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(0)


def access(files: Path) -> Access:
    """All that the server wants."""
    return Access(
        metadata={"Authorization": f"Bearer {KEY}"},
        ca_file=str(files / "server.pem"),
        cert_file=str(files / "client.pem"),
        key_file=str(files / "client.key"),
        server_name=SERVER_NAME,
    )


async def test_calls_get_through_with_certificates_a_name_and_a_key(ghz: str, files: Path, address: str) -> None:
    calls = await asyncio.to_thread(run, ghz, WORKERS, address, 2, 6, 0, access(files))
    assert (calls.count, calls.failed, calls.errors) == (6, {}, {})
    assert set(calls.latency_ms) >= {50, 95, 99}


async def test_any_certificate_is_believed_where_that_is_wanted(ghz: str, files: Path, address: str) -> None:
    careless = replace(access(files), ca_file="", server_name="", skip_verify=True)
    calls = await asyncio.to_thread(run, ghz, WORKERS, address, 1, 2, 0, careless)
    assert calls.failed == {}


@pytest.mark.parametrize(
    ("wrong", "status", "words"),
    [
        pytest.param({"ca_file": "other.pem"}, "Unavailable", "signed by unknown authority", id="another-ca"),
        pytest.param({"server_name": "other.test"}, "Unavailable", "certificate is valid for", id="another-name"),
        pytest.param({"cert_file": "", "key_file": ""}, "Unavailable", "", id="no-client-certificate"),
        pytest.param({"metadata": {}}, "Unauthenticated", "the key is missing", id="no-key"),
    ],
)
async def test_a_failure_says_what_was_wrong(
    ghz: str, files: Path, address: str, wrong: dict[str, str], status: str, words: str
) -> None:
    changed = {name: str(files / value) if name == "ca_file" else value for name, value in wrong.items()}
    calls = await asyncio.to_thread(run, ghz, WORKERS, address, 1, 2, 0, replace(access(files), **changed))  # type: ignore[arg-type]  # a table of fields of several types
    assert calls.failed == {status: 2}
    assert words in calls.errors[status]


@pytest.mark.parametrize("limit", ["max_tokens", "maxTokens"])
async def test_the_timing_that_long_answers_carry_is_read(ghz: str, files: Path, address: str, limit: str) -> None:
    data = {"messages": [{"content": "Hello"}], "sampling": {limit: TOKENS}}
    chat = GhzScenario("chat", "", "weft.router.v1.RouterService/StreamChat", data)
    calls = await asyncio.to_thread(run, ghz, chat, address, 2, 8, 0, access(files))
    assert (calls.count, calls.failed) == (8, {})
    assert list(calls.ttft_ms) == [TTFT_S * 1e3] * 8
    assert calls.carried_ms(99) == TTFT_S * 1e3


async def test_calls_that_are_left_at_their_first_token_do_not_fail(ghz: str, files: Path, address: str) -> None:
    calls = await asyncio.to_thread(run, ghz, load()["chat-first-token"], address, 1, 3, 0, access(files))
    assert (calls.count, calls.failed) == (3, {})


@pytest.mark.parametrize(
    ("key", "code", "words"),
    [
        pytest.param(KEY, 0, "", id="right"),
        pytest.param("another", 1, "Unauthenticated 2 of 2: the key is missing", id="wrong"),
    ],
)
async def test_a_key_is_sent_and_stands_nowhere(
    files: Path,
    ghz: str,
    address: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    key: str,
    code: int,
    words: str,
) -> None:
    monkeypatch.setenv("SOME_KEY", key)
    allowed = access(files)
    command = [sys.executable, "-m", "services.cli", "load", "ghz", "workers", "-n", "2", "-c", "1"]
    command += ["--target", address, "--out", str(tmp_path), "--key-env", "SOME_KEY", "--ca-file", allowed.ca_file]
    command += ["--cert-file", allowed.cert_file, "--key-file", allowed.key_file, "--server-name", SERVER_NAME]
    ran = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=LIMIT_S, stdin=subprocess.DEVNULL
    )
    assert ran.returncode == code, ran.stderr
    assert words in ran.stderr
    left = _only_result(tmp_path)
    assert json.loads(left)["scenarios"]["workers"]["count"] == 2
    assert key not in ran.stdout + ran.stderr + left


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def _only_result(folder: Path) -> str:
    [file] = folder.glob("*/ghz.json")
    return file.read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
async def test_a_run_that_is_stopped_leaves_its_figures_and_no_ghz(
    files: Path, ghz: str, address: str, tmp_path: Path, router: Router, number: signal.Signals
) -> None:
    command = [sys.executable, "-m", "services.cli", "load", "ghz", "workers", "-n", "10000000", "-c", "1"]
    command += ["--target", address, "--out", str(tmp_path / "out"), "--ca-file", str(files / "server.pem")]
    command += ["--cert-file", str(files / "client.pem"), "--key-file", str(files / "client.key")]
    command += ["--server-name", SERVER_NAME, "-H", f"Authorization: Bearer {KEY}"]
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"TMPDIR": str(temporary)},
    )
    async with asyncio.timeout(LIMIT_S):
        await router.called.wait()
        [child] = psutil.Process(process.pid).children()
        arguments = child.cmdline()
        process.send_signal(number)
        _, said = await process.communicate()
    assert process.returncode == 130, said.decode()
    assert not child.is_running()
    assert not any(KEY in one for one in arguments)
    assert json.loads(_only_result(tmp_path / "out"))["scenarios"]["workers"]["interrupted"]
    assert not _entries(temporary)
