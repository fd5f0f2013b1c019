"""The supervisor, with real processes that stand in for services."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from services.cli.plan import Port, Process
from services.cli.supervisor import Phase, Supervisor
from services.cli.view import State, View
from services.kit.clock import monotonic_s
from tests.conftest import ROOT

# Says that it is ready by a file of its name, and ends well on SIGTERM.
STEADY = """
import pathlib, signal, sys, threading
ended = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: ended.set())
pathlib.Path(sys.argv[1]).touch()
ended.wait()
"""
# Does not end on SIGTERM, and neither does its own child.
STUBBORN = """
import pathlib, signal, subprocess, sys, threading
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, sys.argv[2]])
pathlib.Path(sys.argv[1]).write_text(str(child.pid))
threading.Event().wait()
"""
BROKEN = "import sys; print('no model here'); sys.exit(1)"
# Says its number once it runs.
SPEAKING = "import os, threading; print(os.getpid(), flush=True); threading.Event().wait()"
WRONG = "import sys; print('worker.port: wrong'); sys.exit(2)"


def stand_in(name: str, script: str, *arguments: str) -> Process:
    return Process(name, (sys.executable, "-c", script, *arguments), {}, (Port("127.0.0.1", 1, "--x"),))


class Stage:
    """Builds a supervisor whose processes are ready once the file of their name is there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.views: list[View] = []
        self._waiting: list[tuple[Callable[[View], bool], asyncio.Future[View]]] = []

    def ready_file(self, name: str) -> Path:
        return self.folder / f"{name}.ready"

    def steady(self, name: str) -> Process:
        return stand_in(name, STEADY, str(self.ready_file(name)))

    def supervisor(self, *processes: Process) -> Supervisor:
        return Supervisor(processes, self.folder / "logs", self._probe, monotonic_s, self._changed)

    async def _probe(self, process: Process) -> bool:
        return self.ready_file(process.name).exists()

    def _changed(self, view: View) -> None:
        self.views.append(view)
        for matches, found in self._waiting:
            if matches(view) and not found.done():
                found.set_result(view)

    def next(self, matches: Callable[[View], bool]) -> asyncio.Future[View]:
        """The first view from now on that matches."""
        found: asyncio.Future[View] = asyncio.get_running_loop().create_future()
        self._waiting.append((matches, found))
        return found


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    stage = Stage(tmp_path)
    yield stage
    left = [view.pid for view in stage.views if view.pid and psutil.pid_exists(view.pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left


async def test_everything_starts_gets_ready_and_stops_in_order(stage: Stage) -> None:
    supervisor = stage.supervisor(stage.steady("a"), stage.steady("b"))
    supervisor.start()
    await supervisor.ready()
    assert await supervisor.stop([Phase(("b",), 10.0), Phase(("a",), 10.0)]) == []
    assert [view.name for view in stage.views if view.state is State.STOPPED] == ["b", "a"]


async def test_a_process_that_dies_is_started_again(stage: Stage) -> None:
    supervisor = stage.supervisor(stage.steady("a"))
    supervisor.start()
    await supervisor.ready()
    first = supervisor.views[0].pid
    stage.ready_file("a").unlink()
    again = stage.next(lambda view: view.state is State.READY)
    os.kill(first, signal.SIGKILL)
    view = await again
    assert (view.restarts, view.pid != first) == (1, True)
    assert any("by signal 9" in view.note for view in stage.views)
    await supervisor.stop([Phase(("a",), 10.0)])


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        pytest.param(BROKEN, "it ended 3 times before it was ready, the last time with code 1", id="broken"),
        pytest.param(WRONG, "its settings are wrong", id="wrong settings"),
    ],
)
async def test_a_process_that_cannot_start_is_given_up_with_the_end_of_its_log(
    stage: Stage, script: str, sentence: str
) -> None:
    supervisor = stage.supervisor(stage.steady("a"), stand_in("b", script))
    supervisor.start()
    problem = await supervisor.failed()
    assert f"b could not be started: {sentence}" in problem.message
    assert script.split("'")[1] in problem.message
    await supervisor.stop([Phase(("a", "b"), 10.0)])


async def test_a_program_that_is_missing_is_named(stage: Stage) -> None:
    supervisor = stage.supervisor(Process("a", ("/nowhere/envoy",), {}, (Port("127.0.0.1", 1, "--x"),)))
    supervisor.start()
    problem = await supervisor.failed()
    assert "/nowhere/envoy: No such file or directory" in problem.message
    await supervisor.stop([])


async def test_what_does_not_stop_is_killed_with_its_children(stage: Stage) -> None:
    script = stage.folder / "child.py"
    script.write_text(
        "import signal, threading\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nthreading.Event().wait()"
    )
    ready = stage.ready_file("a")
    supervisor = stage.supervisor(stand_in("a", STUBBORN, str(ready), str(script)))
    supervisor.start()
    await supervisor.ready()
    grandchild = psutil.Process(int(ready.read_text()))
    assert await supervisor.stop([Phase(("a",), 0.1)]) == ["a"]
    await asyncio.to_thread(grandchild.wait, 5)


async def test_a_second_signal_does_not_wait(stage: Stage) -> None:
    script = stage.folder / "child.py"
    script.write_text("")
    supervisor = stage.supervisor(stand_in("a", STUBBORN, str(stage.ready_file("a")), str(script)))
    supervisor.start()
    await supervisor.ready()
    stopping = stage.next(lambda view: view.state is State.STOPPING)
    stop = asyncio.create_task(supervisor.stop([Phase(("a",), 60.0)]))
    await stopping
    supervisor.kill()
    async with asyncio.timeout(5):
        assert await stop == []


async def test_stopping_while_it_waits_to_start_again_does_not_wait(stage: Stage) -> None:
    supervisor = stage.supervisor(stand_in("a", BROKEN))
    waiting = stage.next(lambda view: view.state is State.RESTARTING)
    supervisor.start()
    await waiting
    async with asyncio.timeout(5):
        assert await supervisor.stop([Phase(("a",), 10.0)]) == []


def test_a_killed_parent_leaves_no_process(tmp_path: Path) -> None:
    """The leash ends a program that is not ours when the process that started it is killed."""
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, subprocess, sys, threading\n"
        f"program = [sys.executable, '-c', {SPEAKING!r}]\n"
        "subprocess.Popen([sys.executable, '-m', 'services.cli.leash', str(os.getpid()), *program])\n"
        "threading.Event().wait()\n"
    )
    command = [sys.executable, str(script)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        # The pipe ends when the last process that can write to it has ended.
        assert parent.stdout.read() == ""
    with contextlib.suppress(psutil.NoSuchProcess):
        child.wait(10)
    assert not child.is_running()
