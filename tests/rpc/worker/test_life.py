"""A worker's life: it announces itself, to a router that comes back too, it drains, and it stops as a process."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.kit.errors import Unavailable
from services.kit.settings import Settings
from services.kit.settings.engines.sim import SimSettings
from services.kit.settings.worker import WorkerSettings
from services.worker.__main__ import NoAddress, advertised, serve
from services.worker.ports import Engine, Sink
from tests.fakes.engine import FakeEngine
from tests.fakes.router import FakeRouter, serve_router
from tests.rpc.worker.harness import ENDLESS, attached, running_worker


async def test_it_announces_its_real_port_again_and_again_and_finds_a_restarted_router() -> None:
    router, stop = FakeRouter(repeat_after_s=0.02), asyncio.Event()
    async with serve_router(router) as port:
        mine = WorkerSettings(engine="sim", worker_id="w-1", port=0, admin_port=0, routers=[f"127.0.0.1:{port}"])
        worker = asyncio.create_task(serve(Settings(worker=mine), stop))
        worker_id, address = await router.heard(3)
        assert worker_id == "w-1"
        assert not address.endswith(":0")
        async with attached(address):
            pass
    again = FakeRouter(repeat_after_s=0.02)
    async with serve_router(again, port):
        assert await again.heard(2) == ("w-1", address)
    stop.set()
    await worker


async def test_two_routers_learn_of_it_and_one_that_is_away_does_not_matter() -> None:
    one, two, stop = FakeRouter(), FakeRouter(), asyncio.Event()
    async with serve_router(one) as first, serve_router(two) as second:
        routers = ["127.0.0.1:1", f"127.0.0.1:{first}", f"127.0.0.1:{second}"]
        mine = WorkerSettings(engine="sim", port=0, admin_port=0, routers=routers, advertise="localhost:0")
        worker = asyncio.create_task(serve(Settings(worker=mine), stop))
        assert await one.heard() == await two.heard()
        assert one.announced[0][1].startswith("localhost:")
        stop.set()
        await worker


async def test_stop_lets_answers_finish_and_then_closes_the_links() -> None:
    async with running_worker(sim=SimSettings(ttft_ms=2.0, itl_ms=2.0)) as worker, attached(worker.address) as link:
        await link.start(1, max_tokens=100)
        await link.tokens(1, 2)
        worker.stop.set()
        await link.until(lambda link: link.load.draining)
        async with grpc.aio.insecure_channel(worker.address) as channel:
            health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
            assert health.status == health_pb2.HealthCheckResponse.NOT_SERVING
        await link.start(2)
        assert (await link.ended(2)).failure.code == 14
        assert (await link.ended(1)).finish.usage.completion_tokens == 100
        assert await link.end() is grpc.StatusCode.UNAVAILABLE
        await worker.task


async def test_what_is_left_at_the_drain_limit_is_for_its_router_to_move() -> None:
    async with running_worker(drain_limit_s=0.05) as worker, attached(worker.address) as link:
        await link.start(1, max_tokens=ENDLESS)
        await link.tokens(1, 2)
        worker.stop.set()
        assert await link.end() is grpc.StatusCode.UNAVAILABLE
        assert link.answers[1].ended is None
        await worker.task


@pytest.mark.parametrize(
    ("settings", "address"),
    [
        pytest.param({}, "127.0.0.1:5000", id="own"),
        pytest.param({"host": "::1"}, "[::1]:5000", id="ipv6"),
        pytest.param({"host": "0.0.0.0", "advertise": "gpu-7:0"}, "gpu-7:5000", id="port-filled-in"),
        pytest.param({"advertise": "gpu-7:443"}, "gpu-7:443", id="behind-a-forwarder"),
    ],
)
def test_the_advertised_address(settings: dict[str, str], address: str) -> None:
    assert advertised(WorkerSettings(**settings), 5000) == address  # type: ignore[arg-type]


@pytest.mark.parametrize("settings", [{"host": "0.0.0.0"}, {"advertise": "gpu-7"}], ids=["wildcard", "no-port"])
def test_an_address_that_nobody_can_dial_is_an_error(settings: dict[str, str]) -> None:
    with pytest.raises(NoAddress, match=r"worker\.advertise"):
        advertised(WorkerSettings(**settings), 5000)  # type: ignore[arg-type]


async def start_process(**settings: str) -> asyncio.subprocess.Process:
    values = {"WORKER__PORT": "0", "WORKER__ADMIN_PORT": "0", "WORKER__ROUTERS": "[]", **settings}
    environ = {**os.environ, **{f"WEFT_{name}": value for name, value in values.items()}}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.worker", env=environ, stderr=asyncio.subprocess.PIPE
    )


async def test_a_stop_while_the_engine_opens_ends_that_and_closes_what_was_opened() -> None:
    opening, closed, stop = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def never_ready(settings: WorkerSettings, sink: Sink) -> AsyncIterator[Engine]:
        try:
            opening.set()
            await asyncio.Event().wait()
            yield FakeEngine()
        finally:
            closed.set()

    worker = asyncio.create_task(serve(Settings(worker=WorkerSettings(port=0, admin_port=0)), stop, never_ready))
    await opening.wait()
    stop.set()
    async with asyncio.timeout(5.0):
        await worker
    assert closed.is_set()


async def test_an_engine_that_fails_while_it_is_told_to_stop_is_no_failure_of_the_stop() -> None:
    opening, stop = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def fails(settings: WorkerSettings, sink: Sink) -> AsyncIterator[Engine]:
        try:
            opening.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise Unavailable("its process was ended") from None
        yield FakeEngine()

    worker = asyncio.create_task(serve(Settings(worker=WorkerSettings(port=0, admin_port=0)), stop, fails))
    await opening.wait()
    stop.set()
    async with asyncio.timeout(5.0):
        await worker


async def test_sigterm_while_it_waits_for_its_upstream_ends_the_process() -> None:
    asked = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        with suppress(ConnectionError):
            await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as upstream:
        url = f"http://127.0.0.1:{upstream.sockets[0].getsockname()[1]}"
        process = await start_process(WORKER__ENGINE="openai", WORKER__OPENAI__BASE_URL=url)
        await asked.wait()
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10.0):
            assert await process.wait() == 0
        assert process.stderr is not None
        assert b'"stopped"' in await process.stderr.read()


async def test_sigterm_drains_the_process_and_it_exits_cleanly() -> None:
    process = await start_process(WORKER__ENGINE="sim")
    assert process.stderr is not None
    serving = json.loads(await process.stderr.readline())
    assert serving["event"] == "serving"
    async with attached(serving["address"]) as link:
        await link.start(1, max_tokens=10)
        await link.tokens(1)
        process.send_signal(signal.SIGTERM)
        assert (await link.ended(1)).finish.usage.completion_tokens == 10
        assert await link.end() is grpc.StatusCode.UNAVAILABLE
    assert await process.wait() == 0


async def test_a_missing_model_is_one_sentence_and_exit_code_1(tmp_path: Path) -> None:
    missing = str(tmp_path / "no.gguf")
    process = await start_process(WORKER__ENGINE="llamacpp", WORKER__MODEL=missing)
    _, errors = await process.communicate()
    assert process.returncode == 1
    said = json.loads(errors)
    assert said["reason"] == "MODEL_UNUSABLE"
    assert missing in said["message"]
