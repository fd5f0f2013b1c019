"""A worker whose process dies on certain prompts, as if its engine crashed. Run it like the worker itself."""

import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, cast

from services.kit.process import run_service
from services.kit.settings.worker import WorkerSettings
from services.worker import __main__ as worker
from services.worker.ports import Conversation, Engine, Sink, Work

POISON = "arsenic"
"""The word that kills."""


class PoisonedEngine:
    """Passes everything on to a real engine, but for one word."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def submit(self, work: Work) -> None:
        """Does not return where the prompt has the word."""
        assert isinstance(work.prompt, Conversation)
        if any(POISON in turn.content for turn in work.prompt.messages):
            os.kill(os.getpid(), signal.SIGKILL)
        self._engine.submit(work)


Open = Callable[[WorkerSettings, Sink], AbstractAsyncContextManager[Engine]]


def poisoned(real: Open) -> Open:
    """Opens what `real` opens, and poisons it."""

    @asynccontextmanager
    async def opened(settings: WorkerSettings, sink: Sink) -> AsyncIterator[Engine]:
        async with real(settings, sink) as engine:
            yield cast(Engine, PoisonedEngine(engine))

    return opened


if __name__ == "__main__":
    sys.exit(run_service("worker", partial(worker.serve, open_with=poisoned(worker.open_engine))))
