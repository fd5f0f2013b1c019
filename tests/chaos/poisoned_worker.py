"""A worker whose process dies on certain prompts, as if its engine crashed. Run it like the worker itself."""

import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.kit.settings.worker import WorkerSettings
from services.worker import __main__ as worker
from services.worker.engines.sim import SimEngine
from services.worker.ports import Conversation, Sink, Work

POISON = "arsenic"
"""The word that kills."""


class PoisonedEngine(SimEngine):
    """The sim engine, but for one word."""

    def submit(self, work: Work) -> None:
        """Does not return where the prompt has the word."""
        assert isinstance(work.prompt, Conversation)
        if any(POISON in turn.content for turn in work.prompt.messages):
            os.kill(os.getpid(), signal.SIGKILL)
        super().submit(work)


@asynccontextmanager
async def open_poisoned(settings: WorkerSettings, sink: Sink) -> AsyncIterator[SimEngine]:
    """Takes the place of `open_engine`."""
    engine = PoisonedEngine(settings, sink)
    try:
        yield engine
    finally:
        engine.close()


if __name__ == "__main__":
    worker.open_engine = open_poisoned  # this process is the fake
    sys.exit(worker.main())
