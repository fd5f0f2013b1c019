"""`python -m loadtest.sim_cost`: processor time that the sim engine takes for a token: alone, with the board, and as a
whole worker process over a link.
"""

import asyncio
import statistics
import time
from collections.abc import Callable

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

RUNNING = (64, 256)
WARM_STEPS = 50
QUEUE_LIMIT = 1 << 16
ENDLESS = 100_000_000
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
    while engine.load().step_count < until:
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


def main(rounds: int = 7, tokens: int = 200_000) -> None:
    """Prints the best and the median of some rounds: others share the machine."""
    table = Table("µs of CPU a token", *[f"{count} running" for count in RUNNING])
    for name, measure in (("engine", alone_us), ("engine and board", board_us)):
        cells = []
        for running in RUNNING:
            found = [uvloop.run(measure(running, max(1, tokens // running))) for _ in range(rounds)]
            cells.append(f"{min(found):.2f} best, {statistics.median(found):.2f} median")
        table.add_row(name, *cells)
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
