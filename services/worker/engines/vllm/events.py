"""Listens to vLLM's cache events, which its own process publishes on a socket file, and keeps the blocks up to date."""

import asyncio
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import structlog
import zmq
import zmq.asyncio

from services.worker.engines.vllm.blocks import Blocks
from services.worker.ports import CacheChange

# Batches that may wait for this process; vLLM drops what is over it, which is noticed by their numbers.
BATCHES_LIMIT = 100_000
_ON_GPU = (None, "GPU")


class CacheEvents:
    """A folder for the socket, made at once, and a task that reads it between `start` and `close`."""

    def __init__(self, blocks: Blocks, changed: Callable[[CacheChange], None]) -> None:
        self._blocks = blocks
        self._changed = changed
        self._folder = Path(tempfile.mkdtemp(prefix="weft-vllm-"))
        self._context = zmq.asyncio.Context()
        self._task: asyncio.Task[None] | None = None
        self._next = 0

    @property
    def endpoint(self) -> str:
        """Where vLLM publishes."""
        return f"ipc://{self._folder}/events"

    def start(self) -> None:
        """Reads a new engine's events; those of one before it are over."""
        self.stop()
        self._next = 0
        self._task = asyncio.create_task(self._read())

    def stop(self) -> None:
        """The engine is gone, and its cache with it."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self._blocks.cleared()

    async def close(self) -> None:
        """Ends the task and removes the socket."""
        task = self._task
        self.stop()
        if task is not None:
            await asyncio.gather(task, return_exceptions=True)
        self._context.destroy(linger=0)
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def _read(self) -> None:
        socket = self._context.socket(zmq.SUB)
        try:
            socket.setsockopt(zmq.RCVHWM, BATCHES_LIMIT)
            socket.setsockopt(zmq.SUBSCRIBE, b"")
            socket.connect(self.endpoint)
            while True:
                _, number, payload = await socket.recv_multipart()
                self._take(int.from_bytes(number, "big"), msgspec.msgpack.decode(payload))
        except Exception as caught:
            # Answers do not need it; routers learn that nothing is known to be there.
            structlog.get_logger("vllm").error("cache events cannot be read", exc_info=caught)
            self._blocks.cleared()
            self._tell()
        finally:
            socket.close(linger=0)

    def _take(self, number: int, batch: list[Any]) -> None:
        if number != self._next and self._next:
            # Something was lost, and it may have been a removal.
            self._blocks.cleared()
        self._next = number + 1
        for event in batch[1]:
            self._apply(event)
        self._tell()

    def _tell(self) -> None:
        if (change := self._blocks.take_change()) is not None:
            self._changed(change)

    def _apply(self, event: dict[str, Any]) -> None:
        kind = event.get("type")
        if kind == "AllBlocksCleared":
            self._blocks.cleared()
        # Of models with several kinds of attention the first group is the one that sees everything.
        elif event.get("medium") not in _ON_GPU or event.get("group_idx") not in (None, 0):
            return
        elif kind == "BlockStored":
            self._blocks.stored(
                event["block_hashes"], event["parent_block_hash"], event["token_ids"], event.get("lora_name") or ""
            )
        elif kind == "BlockRemoved":
            self._blocks.removed(event["block_hashes"])
