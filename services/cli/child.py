"""One child process: starts it in a group of its own, waits for it, and ends it with all that it started."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping
from pathlib import Path

from services.cli.logfile import LogFile
from services.cli.plan import Process


class Child:
    """A running process. `wait` must be awaited; it ends what the process left behind in its group."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.pid = process.pid
        self._process = process

    def __repr__(self) -> str:
        return f"Child({self.name} pid={self.pid})"

    async def wait(self) -> int:
        """Its exit status, negative for a signal."""
        try:
            return await self._process.wait()
        finally:
            # The group outlives its leader when a child of the leader does; its number stays taken as long.
            self._signal_group(signal.SIGKILL)

    def terminate(self) -> None:
        """Asks it to end. Its own children are its own business until it has ended."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    def kill(self) -> None:
        """Ends it and its group at once."""
        self._signal_group(signal.SIGKILL)

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


async def start(process: Process, log: LogFile, base: Mapping[str, str], folder: Path) -> Child:
    """Starts the process in `folder`. Its environment is `base` without its WEFT_ variables, and then its own.

    It gets no terminal and no signal of the terminal, so Ctrl-C reaches the supervisor alone. OSError where the
    program cannot be started.
    """
    kept = {name: value for name, value in base.items() if not name.startswith("WEFT_") or name == "WEFT_CONFIG"}
    environment = kept | process.environment | {"WEFT_SUPERVISED": str(os.getpid())}
    with log.open() as output:
        started = await asyncio.create_subprocess_exec(
            *process.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            cwd=folder,
            start_new_session=True,
        )
    return Child(process.name, started)
