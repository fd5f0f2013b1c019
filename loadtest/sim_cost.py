"""`python -m loadtest.sim_cost`: processor time of a sim worker for a token: engine, board, and all over a link."""

import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import psutil
import typer
import uvloop
from rich.console import Console
from rich.table import Table

from services.kit.clock import monotonic_s
from services.kit.settings.engines.sim import SimSettings
from services.kit.settings.worker import WorkerSettings
from services.kit.telemetry import new_registry
from services.worker.board import Board, Route
from services.worker.engines.sim.engine import SimEngine
from services.worker.link import Link
from services.worker.metrics import WorkerMetrics
from services.worker.ports import Rendered, Sampling, Sink, Work
from weft.chat.v1 import chat_pb2
from weft.worker.v1 import worker_pb2 as pb

RUNNING = (64, 256)
WARM_STEPS = 50
QUEUE_LIMIT = 1 << 16
ENDLESS = 100_000_000
LINK_STEP_MS = 5.0
ATTACH = "/weft.worker.v1.WorkerService/Attach"
FAST = SimSettings(ttft_ms=0.0, itl_ms=0.0, kv_blocks=0)
"""Steps follow each other at once, so that all that is measured is work."""


def settings(running: int) -> WorkerSettings:
    """A worker with room for so many endless answers."""
    return WorkerSettings(engine="sim", max_running=running, context_tokens=ENDLESS, sim=FAST)


async def engine_us(running: int, steps: int, sink: Sink, prepare: Callable[[int], None]) -> float:
    """Microseconds of processor time for each token of so many steps with so many requests."""
    engine = SimEngine(settings(running), sink)
    try:
        for key in range(1, running + 1):
            prepare(key)
            engine.submit(Work(key, Rendered(f"question {key}"), Sampling(max_tokens=ENDLESS // 2)))
        await _steps(engine, WARM_STEPS)
        begun_s, at = time.process_time(), engine.load().step_count
        await _steps(engine, steps)
        tokens = (engine.load().step_count - at) * running
        return (time.process_time() - begun_s) / tokens * 1e6
    finally:
        engine.close()


async def _steps(engine: SimEngine, count: int) -> None:
    until = engine.load().step_count + count
    while engine.load().step_count < until:  # noqa: ASYNC110 - an event for each step would be measured too
        await asyncio.sleep(0)


async def alone_us(running: int, steps: int) -> float:
    """The engine alone: its steps go nowhere."""
    return await engine_us(running, steps, lambda step: None, lambda key: None)


async def board_us(running: int, steps: int) -> float:
    """With the worker's board, which makes each step a message for one link, and a reader that drops them."""
    board, link = Board(WorkerMetrics(new_registry()), monotonic_s), Link(QUEUE_LIMIT, "reader")

    async def read() -> None:
        while True:
            await link.take()

    reader = asyncio.create_task(read())
    try:
        return await engine_us(running, steps, board.deliver, lambda key: board.add(key, Route(link, key)))
    finally:
        reader.cancel()


async def link_us(running: int, steps: int) -> float:
    """A worker process that steps every LINK_STEP_MS, and a router's link to it; all that the process took."""
    async with _worker(running) as (pid, address), grpc.aio.insecure_channel(address) as channel:
        # Messages stay bytes here: a reader that is slow would be cut.
        call: Any = channel.stream_stream(ATTACH, request_serializer=pb.AttachRequest.SerializeToString)()
        await call.write(pb.AttachRequest(open=pb.Open(router_id="cost")))
        sampling = chat_pb2.Sampling(max_tokens=ENDLESS // 2)
        for request in range(1, running + 1):
            prompt = pb.Prompt(text=f"question {request}")
            await call.write(pb.AttachRequest(start=pb.Start(request=request, prompt=prompt, sampling=sampling)))
        process = psutil.Process(pid)
        at = await _read_until(call, WARM_STEPS, running)
        begun_s = sum(process.cpu_times()[:2])
        until = await _read_until(call, at + steps, running)
        took_s = sum(process.cpu_times()[:2]) - begun_s
        call.cancel()
        return took_s / ((until - at) * running) * 1e6


async def _read_until(call: Any, step: int, running: int) -> int:
    """Reads until the engine has made so many steps with all that run; its step count then."""
    while True:
        # Parsing each would cost more than the worker does; some are enough to know the step.
        for _ in range(8):
            message = await call.read()
        load = pb.AttachResponse.FromString(message).load
        if load.running == running and load.step_count >= step:
            return int(load.step_count)


@asynccontextmanager
async def _worker(running: int) -> AsyncIterator[tuple[int, str]]:
    values = {
        "ENGINE": "sim",
        "PORT": "0",
        "ADMIN_PORT": "0",
        "ROUTERS": "[]",
        "MAX_RUNNING": str(running),
        "CONTEXT_TOKENS": str(ENDLESS),
        "SIM__TTFT_MS": "0",
        "SIM__ITL_MS": str(LINK_STEP_MS),
        "SIM__KV_BLOCKS": "0",
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.worker"),
        env={**os.environ, **{f"WEFT_WORKER__{name}": value for name, value in values.items()}},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stderr is not None
        line = await process.stderr.readline()
        yield process.pid, json.loads(line)["address"]
    finally:
        process.kill()
        await process.communicate()


MEASURES = {"engine": alone_us, "engine and board": board_us, "worker over a link": link_us}


def main(rounds: int = 7, tokens: int = 200_000) -> None:
    """Prints the best and the median of some rounds: others share the machine."""
    table = Table("µs of CPU a token", *[f"{count} running" for count in RUNNING])
    for name, measure in MEASURES.items():
        cells = []
        for running in RUNNING:
            found = [uvloop.run(measure(running, max(1, tokens // running))) for _ in range(rounds)]
            cells.append(f"{min(found):.2f} best, {statistics.median(found):.2f} median")
        table.add_row(name, *cells)
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
