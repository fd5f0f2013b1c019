"""Gives collections their graphs while they are searched and written to: copy, build beside, catch up, take over."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import structlog

from services.kit.errors import WeftError
from services.retriever.child import Child, ChildGone, ChildSlow
from services.retriever.stores.edge.operations import BeginGraph, DueGraph, EndGraph, FollowGraph, Operation

_MODULE = "services.retriever.stores.edge.graph_process"
_START_TIMEOUT_S = 60.0
_COPY_TIMEOUT_S = 600.0
_BUILD_TIMEOUT_S = 4 * 3600.0
# After a look that found nothing to do, or a try that failed.
_PAUSE_S = 2.0

Do = Callable[[Operation], Awaitable[Any]]


class GraphBuilder:
    """Builds one graph at a time. `look` tells it that there may be work; `close` ends it with its process."""

    def __init__(self, do: Do, folder: Path) -> None:
        self._do = do
        self._folder = folder
        self._hint = asyncio.Event()
        self._copying: dict[str, asyncio.Event] = {}
        self._task: asyncio.Task[None] | None = None
        self._log = structlog.get_logger("graph")

    def __repr__(self) -> str:
        return f"GraphBuilder(copying={list(self._copying)})"

    def start(self) -> None:
        """Begins to work; large collections may want a graph right away."""
        self._hint.set()
        self._task = asyncio.create_task(self._run(), name="graph")

    def look(self) -> None:
        """Something was written."""
        self._hint.set()

    async def writable(self, collection: str) -> None:
        """Waits while the collection's files are being copied."""
        while (copied := self._copying.get(collection)) is not None:
            await copied.wait()

    async def close(self) -> None:
        """Gives up what is under way; the collection stays as it is."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            await self._hint.wait()
            self._hint.clear()
            try:
                while name := await self._do(DueGraph()):
                    await self._build(name)
            except (WeftError, ChildGone, ChildSlow, OSError) as error:
                self._log.warning("no graph for now", reason=str(error))
                self._hint.set()
            await asyncio.sleep(_PAUSE_S)

    async def _build(self, name: str) -> None:
        child: Child | None = None
        self._copying[name] = asyncio.Event()
        try:
            source, target = await self._do(BeginGraph(name))
            child = await Child.start(_MODULE, [str(self._folder / name), source, target], _START_TIMEOUT_S)
            await child.ask(b"copy", _COPY_TIMEOUT_S)
            self._copying.pop(name).set()
            self._log.info("building a graph", collection=name)
            await child.ask(b"build", _BUILD_TIMEOUT_S)
            while not await self._do(FollowGraph(name)):
                pass
            self._log.info("graph built", collection=name)
        except BaseException:
            if child is not None:
                await child.kill()
            await self._give_up(name)
            raise
        finally:
            if copied := self._copying.pop(name, None):
                copied.set()
            if child is not None:
                await child.kill()

    async def _give_up(self, name: str) -> None:
        # A store that is away, or is closed, removes the copy when it opens the collection.
        with contextlib.suppress(WeftError):
            await asyncio.shield(self._do(EndGraph(name)))
