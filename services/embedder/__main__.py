"""The embedder's process: loads the model, serves it, and drains when it is told to stop."""

import asyncio
import sys

import structlog

from services.embedder.models.minilm.load import load_minilm
from services.embedder.ports import Model
from services.embedder.service import running
from services.kit.admin import AdminServer
from services.kit.process import run_service
from services.kit.settings import Settings
from services.kit.telemetry import new_registry


class Readiness:
    """Why the service is not ready; empty once it is."""

    def __init__(self) -> None:
        self.reason = "the model is being loaded; the first start builds its file"

    def __call__(self) -> str:
        return self.reason


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Serves until `stop`, then lets what was taken in finish."""
    mine = settings.embedder
    registry = new_registry()
    readiness = Readiness()
    admin = AdminServer(mine.host, mine.admin_port, registry, readiness)
    try:
        model = await _load(settings, stop)
        if model is None:
            return
        async with running(model, settings, registry) as port:
            readiness.reason = ""
            structlog.get_logger("embedder").info(
                "serving", address=f"{mine.host}:{port}", port=port, admin_port=admin.port, runtime=model.info.runtime
            )
            await stop.wait()
            readiness.reason = "this embedder is stopping"
    finally:
        admin.stop()


async def _load(settings: Settings, stop: asyncio.Event) -> Model | None:
    """The model, or None where the process is told to stop first."""
    loading = asyncio.create_task(load_minilm(settings.data_dir))
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([loading, stopped], return_when=asyncio.FIRST_COMPLETED)
        return loading.result() if loading.done() else None
    finally:
        loading.cancel()
        stopped.cancel()
        await asyncio.gather(loading, stopped, return_exceptions=True)


def main() -> int:
    """The process's exit code."""
    return run_service("embedder", serve)


if __name__ == "__main__":
    sys.exit(main())
