"""Keeps the processes of a mesh running together: starts them all at once, and stops them in order within a bound."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from services.cli.keeper import Keeper, Probe
from services.cli.logfile import LogFile
from services.cli.plan import Process
from services.cli.problem import Problem
from services.cli.restart import GiveUp
from services.cli.view import State, View
from services.kit.clock import Now


@dataclass(frozen=True, slots=True)
class Phase:
    """Processes that are stopped together, and how long they have before they are killed."""

    names: tuple[str, ...]
    bound_s: float


class Supervisor:
    """Owns its processes from `start` until `stop` has returned."""

    def __init__(
        self, processes: Sequence[Process], logs: Path, probe: Probe, now: Now, changed: Callable[[View], None]
    ) -> None:
        self._changed = changed
        self._keepers = {
            process.name: Keeper(process, LogFile(logs / f"{process.name}.log"), probe, now, self._on_view)
            for process in processes
        }
        self._tasks: dict[str, asyncio.Task[GiveUp | None]] = {}
        self._ready = asyncio.Event()

    def __repr__(self) -> str:
        return f"Supervisor({', '.join(map(repr, self._keepers.values()))})"

    @property
    def views(self) -> list[View]:
        """Every process, in the order of the plan."""
        return [keeper.view for keeper in self._keepers.values()]

    def start(self) -> None:
        """Starts every process at once."""
        self._tasks = {name: asyncio.create_task(keeper.run(), name=name) for name, keeper in self._keepers.items()}

    async def ready(self) -> None:
        """Returns when every process is ready at the same time."""
        await self._ready.wait()

    async def failed(self) -> Problem:
        """Returns when a process is given up on: what happened, with the end of its log."""
        done, _ = await asyncio.wait(self._tasks.values(), return_when=asyncio.FIRST_COMPLETED)
        task = done.pop()
        name = task.get_name()
        outcome = task.result()
        log = self._keepers[name].log
        reason = outcome.reason if outcome else "it was stopped"
        return Problem(f"{name} could not be started: {reason}. The end of {log.path}:\n{log.tail()}")

    async def stop(self, phases: Sequence[Phase]) -> list[str]:
        """Stops the phases one after another; whatever is in none of them is killed. Returns who had to be killed."""
        killed: list[str] = []
        for phase in phases:
            killed += await self._stop_together([n for n in phase.names if n in self._tasks], phase.bound_s)
        rest = [name for name, task in self._tasks.items() if not task.done()]
        return killed + await self._stop_together(rest, 0.0)

    def kill(self) -> None:
        """Ends everything at once; `stop` then returns soon."""
        for keeper in self._keepers.values():
            keeper.kill()

    async def _stop_together(self, names: Sequence[str], bound_s: float) -> list[str]:
        for name in names:
            self._keepers[name].stop()
        tasks = [self._tasks[name] for name in names]
        if not tasks:
            return []
        await asyncio.wait(tasks, timeout=bound_s)
        late = [name for name in names if not self._tasks[name].done()]
        for name in late:
            self._keepers[name].kill()
        await asyncio.gather(*tasks)
        return late

    def _on_view(self, view: View) -> None:
        if all(keeper.view.state is State.READY for keeper in self._keepers.values()):
            self._ready.set()
        else:
            self._ready.clear()
        self._changed(view)
