"""The parent's end: a helper process that answers one question at a time over its pipe. Knows nothing of questions."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Awaitable
from pathlib import Path

from services.retriever.frames import LENGTH

_ROOT = Path(__file__).resolve().parents[2]
_READ_BUFFER_BYTES = 1024 * 1024


class ChildGone(Exception):
    """The process ended, or broke the pipe, before it had answered."""


class ChildSlow(Exception):
    """The process did not answer in time; it has to be stopped, since its answer may still come."""


class Child:
    """A running `python -m module`. Made by `start`, ended by `stop`; `ask` must not be called twice at once."""

    def __init__(self, module: str, process: asyncio.subprocess.Process) -> None:
        self._module = module
        self._process = process

    def __repr__(self) -> str:
        return f"Child({self._module} pid={self._process.pid} returncode={self._process.returncode})"

    @classmethod
    async def start(cls, module: str, arguments: list[str], timeout_s: float) -> "Child":
        """Starts it and waits until it is ready. Raises ChildGone or ChildSlow, and then leaves no process behind."""
        path = os.pathsep.join([str(_ROOT), str(_ROOT / "gen"), *filter(None, [os.environ.get("PYTHONPATH")])])
        # Settings hold keys, and what reads strangers' documents has no business with them.
        own = {name: value for name, value in os.environ.items() if not name.startswith("WEFT_")}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_READ_BUFFER_BYTES,
            # Ctrl-C goes to the whole group of the terminal; the child has to outlive it until the parent has drained.
            start_new_session=True,
            env={**own, "PYTHONPATH": path, "TOKENIZERS_PARALLELISM": "false"},
        )
        child = cls(module, process)
        try:
            await child._within(timeout_s, child._read())
        except BaseException:
            await child.kill()
            raise
        return child

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended, as far as is known."""
        return self._process.returncode is None

    async def ask(self, question: bytes, timeout_s: float) -> bytes:
        """Its answer. Raises ChildGone or ChildSlow; after either, or after a cancel, only `kill` makes sense."""
        return await self._within(timeout_s, self._exchange(question))

    async def wait(self) -> int:
        """Its exit code, once it has ended."""
        return await self._process.wait()

    async def stop(self, grace_s: float) -> None:
        """Closes its stdin, which asks it to finish; kills it after `grace_s`."""
        if self._process.stdin:
            self._process.stdin.close()
        try:
            async with asyncio.timeout(grace_s):
                await self._process.wait()
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """Ends it at once and reaps it."""
        if self._process.stdin:
            self._process.stdin.close()
        if self.running:
            # It may end in this very moment, which is what was wanted.
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        await self._process.wait()

    async def _within(self, timeout_s: float, work: Awaitable[bytes]) -> bytes:
        try:
            # Not wait_for, which loses a cancellation that comes in the moment in which the work is done.
            async with asyncio.timeout(timeout_s):
                return await work
        except TimeoutError:
            raise ChildSlow(f"{self._module} did not answer within {timeout_s:g} s") from None
        except (asyncio.IncompleteReadError, ConnectionError, BrokenPipeError) as error:
            raise ChildGone(f"{self._module} ended") from error

    async def _exchange(self, question: bytes) -> bytes:
        assert self._process.stdin is not None
        self._process.stdin.write(LENGTH.pack(len(question)))
        self._process.stdin.write(question)
        await self._process.stdin.drain()
        return await self._read()

    async def _read(self) -> bytes:
        assert self._process.stdout is not None
        size = LENGTH.unpack(await self._process.stdout.readexactly(LENGTH.size))[0]
        return await self._process.stdout.readexactly(size)
