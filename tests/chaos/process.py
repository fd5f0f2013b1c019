"""One service as a real process: starts it, sends it signals, waits for its end. What it serves is not its business."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from tests.conftest import ROOT

END_LIMIT_S = 30.0


def variables(settings: Mapping[str, Any], prefix: str = "WEFT_") -> Iterator[tuple[str, str]]:
    """The environment's names and values for a tree of settings."""
    for name, value in settings.items():
        key = prefix + name.upper()
        if isinstance(value, Mapping):
            yield from variables(value, f"{key}__")
        else:
            yield key, json.dumps(value) if isinstance(value, list | bool) else str(value)


class Process:
    """`python -m module` with these settings and nothing of ours; it may be started again after its end.

    `python` is the interpreter, for engines that have an environment of their own.
    """

    def __init__(
        self, name: str, module: str, settings: Mapping[str, Any], log: Path, python: str = sys.executable
    ) -> None:
        self.name = name
        self._python = python
        self._module = module
        self._settings = dict(variables(settings))
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    def __repr__(self) -> str:
        return f"Process({self.name} pid={self._process.pid if self._process else '-'})"

    @property
    def pid(self) -> int:
        """Of the process that was started last."""
        assert self._process is not None, f"{self.name} was never started"
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Nothing runs."""
        return self._process is None or self._process.returncode is not None

    @property
    def log(self) -> str:
        """All that it said, every start included."""
        return self._log.read_text()

    async def start(self) -> None:
        """Starts it; it is not ready yet when this returns."""
        assert self.has_ended, f"{self.name} runs already"
        ours = {name: value for name, value in os.environ.items() if not name.startswith("WEFT_")}
        path = os.pathsep.join([str(ROOT), str(ROOT / "gen")])
        with self._log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *(self._python, "-m", self._module),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self._log.parent,
                env={**ours, **self._settings, "PYTHONPATH": path, "WEFT_SUPERVISED": str(os.getpid())},
            )

    def signal(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    async def ended(self) -> int:
        """Waits for its end; the exit code, negative for a signal."""
        assert self._process is not None
        async with asyncio.timeout(END_LIMIT_S):
            return await self._process.wait()

    async def close(self) -> None:
        """Ends it at once, hung or not; nothing where it has ended."""
        if not self.has_ended:
            self.signal(signal.SIGKILL)
            await self.ended()

    def memory_bytes(self) -> int:
        """Resident memory."""
        found: int = psutil.Process(self.pid).memory_info().rss
        return found
