"""The embedder's process: loads its models, serves them, and drains when it is told to stop."""

import asyncio
import sys
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import TypeVar

import structlog

from services.embedder.metrics import EmbedderMetrics
from services.embedder.models.load import load_models
from services.embedder.service import running
from services.embedder.vigil import Vigil
from services.kit.admin import AdminServer
from services.kit.process import run_service
from services.kit.settings import Settings
from services.kit.telemetry import new_registry

Loaded = TypeVar("Loaded")


class Readiness:
    """Why the service is not ready; empty once it is."""

    def __init__(self) -> None:
        self.reason = "the models are being loaded; the first start builds their files"
        self.vigil: Vigil | None = None

    def __call__(self) -> str:
        return self.reason or (self.vigil.reason if self.vigil else "")


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Serves until `stop`, then lets what was taken in finish."""
    mine = settings.embedder
    registry = new_registry()
    metrics = EmbedderMetrics(registry)
    readiness = Readiness()
    admin = AdminServer(mine.host, mine.admin_port, registry, readiness)
    try:
        async with AsyncExitStack() as loaded:
            models = await _unless(stop, load_models(settings, metrics, loaded))
            if models is None:
                return
            readiness.vigil = vigil = Vigil(models)
            async with running(models, settings, registry, metrics, vigil) as port:
                readiness.reason = ""
                structlog.get_logger("embedder").info(
                    "serving",
                    address=f"{mine.host}:{port}",
                    port=port,
                    admin_port=admin.port,
                    models={model.info.name: model.info.runtime for model in models},
                )
                await stop.wait()
                readiness.reason = "this embedder is stopping"
    finally:
        admin.stop()


async def _unless(stop: asyncio.Event, loading: Coroutine[None, None, Loaded]) -> Loaded | None:
    """What was loaded, or None where the process is told to stop first."""
    work = asyncio.create_task(loading)
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([work, stopped], return_when=asyncio.FIRST_COMPLETED)
        return work.result() if work.done() else None
    finally:
        work.cancel()
        stopped.cancel()
        await asyncio.gather(work, stopped, return_exceptions=True)


def main() -> int:
    """The process's exit code."""
    return run_service("embedder", serve)


if __name__ == "__main__":
    sys.exit(main())
