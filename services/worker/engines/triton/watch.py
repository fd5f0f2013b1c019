"""Watches Triton while the worker runs: ready or not, and how much it has to do. It decides nothing."""

import asyncio

import httpx
import structlog

from services.worker.engines.triton.engine import TritonEngine
from services.worker.engines.triton.readings import MetricsError, read_metrics

WATCH_EVERY_S = 1.0


async def watch(engine: TritonEngine) -> None:
    """Tells the engine every second whether Triton can work; runs until it is cancelled."""
    log = structlog.get_logger("triton")
    while True:
        await asyncio.sleep(WATCH_EVERY_S)
        try:
            await engine.ask()
        except Exception as caught:
            # Without its watch a worker would never work again.
            log.error("watching failed", exc_info=caught)


async def watch_metrics(engine: TritonEngine, url: str, model: str, timeout_s: float) -> None:
    """Reads Triton's metrics every second; runs until it is cancelled. A reading that fails is said once."""
    log = structlog.get_logger("triton")
    failed = ""
    async with httpx.AsyncClient(timeout=timeout_s) as client:
        while True:
            try:
                engine.read(await read_metrics(client, url, model))
                failed = ""
            except MetricsError as error:
                engine.read(None)
                if not failed:
                    log.warning("no metrics", why=str(error))
                failed = str(error)
            except Exception as caught:
                # What was read last would stand for ever.
                engine.read(None)
                if not failed:
                    log.error("reading metrics failed", exc_info=caught)
                failed = repr(caught)
            await asyncio.sleep(WATCH_EVERY_S)
