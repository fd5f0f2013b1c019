"""Keeps one process running: starts it, watches whether it is ready, and starts it again when it ends."""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from services.cli import child
from services.cli.logfile import LogFile
from services.cli.plan import Process
from services.cli.restart import WRONG_SETTINGS, Ended, GiveUp, after_end, how
from services.cli.view import State, View
from services.kit.clock import Now

PROBE_STARTING_S = 0.1
PROBE_READY_S = 1.0

Probe = Callable[[Process], Awaitable[bool]]


class Keeper:
    """Owns one process while `run` runs. `changed` is called with every new view."""

    def __init__(self, process: Process, log: LogFile, probe: Probe, now: Now, changed: Callable[[View], None]) -> None:
        self._process = process
        self.log = log
        self._probe = probe
        self._now = now
        self._changed = changed
        self._child: child.Child | None = None
        self._stop = asyncio.Event()
        self._ever_ready = False
        self.view = View(process.name, process.address, State.STARTING, since_s=now())

    def __repr__(self) -> str:
        return f"Keeper({self.view.name} {self.view.state.value} pid={self.view.pid})"

    async def run(self) -> GiveUp | None:
        """Returns after `stop`, or the reason why starting the process again would not help. Cancelling kills it."""
        failures = 0
        while not self._stop.is_set():
            started_s = self._now()
            code = await self._once()
            if self._stop.is_set():
                break
            outcome = after_end(Ended(code, self._now() - started_s, self._ever_ready, failures))
            if isinstance(outcome, GiveUp):
                self._show(State.FAILED, note=outcome.reason)
                return outcome
            failures = outcome.failures
            self._show(State.RESTARTING, note=f"ended {how(code)}; again in {outcome.delay_s:.1f} s")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(outcome.delay_s):
                    await self._stop.wait()
        self._show(State.STOPPED)
        return None

    def stop(self) -> None:
        """Asks the process to end; `run` returns once it has."""
        self._stop.set()
        if self._child:
            self._show(State.STOPPING, pid=self._child.pid)
            self._child.terminate()

    def kill(self) -> None:
        """Ends the process and what it started, at once."""
        self._stop.set()
        if self._child:
            self._child.kill()

    async def _once(self) -> int:
        """Runs the process once; returns its exit status."""
        try:
            running = await child.start(self._process, self.log, os.environ, Path.cwd())
        except OSError as error:
            self.log.path.write_text(f"{self._process.command[0]}: {error.strerror}\n")
            return WRONG_SETTINGS
        self._child = running
        self._show(State.STARTING, pid=running.pid)
        watch = asyncio.create_task(self._watch(running.pid))
        try:
            if self._stop.is_set():
                running.terminate()
            return await running.wait()
        finally:
            self._child = None
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)

    async def _watch(self, pid: int) -> None:
        """Asks again and again whether the process is ready, and keeps its log within its bound."""
        while True:
            ready = await self._probe(self._process)
            if ready and self.view.state in (State.STARTING, State.NOT_READY):
                self._ever_ready = True
                self._show(State.READY, pid=pid)
            elif not ready and self.view.state is State.READY:
                self._show(State.NOT_READY, pid=pid, note="it does not answer, or says that it cannot work")
            self.log.bound()
            await asyncio.sleep(PROBE_READY_S if ready else PROBE_STARTING_S)

    def _show(self, state: State, *, pid: int = 0, note: str = "") -> None:
        started_again = state is State.STARTING and self.view.state is State.RESTARTING
        self.view = replace(
            self.view,
            state=state,
            pid=pid,
            note=note,
            restarts=self.view.restarts + started_again,
            since_s=self._now(),
        )
        self._changed(self.view)
