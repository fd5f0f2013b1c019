"""Runs a mesh from the first check to the last process's end."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import TypeVar

import grpc.aio
from rich.console import Console

from services.cli.assets import asset
from services.cli.checks import check_model, check_ports, envoy_command, raise_file_limit
from services.cli.envoy_config import render
from services.cli.lock import locked
from services.cli.mesh_file import MeshFile, urls
from services.cli.plan import Mesh, Process, plan
from services.cli.ports import FreePorts
from services.cli.probe import answers_ok, is_serving
from services.cli.problem import Problem
from services.cli.screen import Screen
from services.cli.supervisor import Phase, Supervisor
from services.cli.view import State, View
from services.kit.channels import dial
from services.kit.clock import monotonic_s
from services.kit.settings import Settings
from weft.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from weft.router.v1 import router_pb2, router_pb2_grpc

STOP_MARGIN_S = 3.0
_WORKER_POLL_S = 0.1
_CALL_TIMEOUT_S = 2.0

Answer = TypeVar("Answer")
WhenReady = Callable[[Mesh], Coroutine[None, None, bool]]
"""What to do once the mesh is ready; returns whether the mesh stays up after it."""


def prepare(settings: Settings, workers: int, sim_speeds: Sequence[float] = (), embedders: int = 1) -> Mesh:
    """Plans the mesh and makes the checks that need no lock; raises Problem. For `sim_speeds` see `plan`."""
    check_model(settings)
    with FreePorts().lend() as free:
        return plan(settings, workers, free.take, envoy_command(os.getpid()), sim_speeds, embedders)


async def run(mesh: Mesh, console: Console, screen: Screen, ready_limit_s: float, when_ready: WhenReady) -> None:
    """Runs the mesh until Ctrl-C, SIGTERM or SIGHUP, or until `when_ready` says that it is over. Raises Problem.

    A second signal kills what the first asked to stop. No process is left behind. `when_ready` may close the screen.
    """
    settings = mesh.settings
    raise_file_limit()
    with locked(settings.data_dir):
        check_ports(mesh)
        mesh.envoy_file.write_text(render(asset("envoy.yaml").read_text(), mesh, asset("weft.binpb")))
        file = MeshFile(mesh)

        def changed(view: View) -> None:
            screen.changed(view)
            file.changed(view)

        async with _probes(mesh) as probe:
            supervisor = Supervisor(mesh.processes, settings.data_dir / "logs", probe, monotonic_s, changed)
            with _signals(supervisor.kill) as stop, contextlib.closing(screen):
                screen.open(supervisor.views)
                supervisor.start()
                try:
                    await _live(mesh, supervisor, stop, console, ready_limit_s, when_ready)
                finally:
                    console.print("stopping; Ctrl-C again does not wait for answers under way")
                    killed = await supervisor.stop(_phases(mesh))
                    file.remove()
        console.print("stopped" + (f"; {', '.join(killed)} had to be killed" if killed else ""))


async def _live(
    mesh: Mesh,
    supervisor: Supervisor,
    stop: asyncio.Event,
    console: Console,
    ready_limit_s: float,
    when_ready: WhenReady,
) -> None:
    """From the start until there is a reason to stop."""
    failed = asyncio.create_task(supervisor.failed())
    stopped = asyncio.create_task(stop.wait())
    ready = asyncio.create_task(_ready(mesh, supervisor))
    work: asyncio.Task[bool] | None = None
    try:
        done, _ = await asyncio.wait(
            [failed, stopped, ready], timeout=ready_limit_s, return_when=asyncio.FIRST_COMPLETED
        )
        if failed in done:
            raise failed.result()
        if stopped in done:
            return
        if not done:
            late = [f"{view.name} is {view.state.value}" for view in supervisor.views if view.state is not State.READY]
            raise Problem(
                f"the mesh was not ready within {ready_limit_s:.0f} s ({', '.join(late) or 'no worker serves'}): "
                f"look into {mesh.settings.data_dir / 'logs'}, or allow more time with --ready-timeout"
            )
        ready.result()
        console.print(_ready_lines(mesh))
        work = asyncio.create_task(when_ready(mesh))
        await asyncio.wait([work, stopped], return_when=asyncio.FIRST_COMPLETED)
        if stopped.done() or not work.result():
            return
        await stopped
    finally:
        tasks = [task for task in (failed, stopped, ready, work) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _ready(mesh: Mesh, supervisor: Supervisor) -> None:
    """Returns when every process is ready, and at Envoy an embedder and a worker answer.

    Envoy looks at embedders for itself, and may find one well a moment later than its own health says so. Workers that
    run elsewhere come when they come: a mesh that starts none of its own waits for none.
    """
    await supervisor.ready()
    async with dial(mesh.target, mesh.settings.grpc) as channel:
        embedder = embedder_pb2_grpc.EmbedderServiceStub(channel)
        router = router_pb2_grpc.RouterServiceStub(channel)
        while not await _answers(  # noqa: ASYNC110 - Envoy tells nobody when it has found one
            embedder.GetModel(embedder_pb2.GetModelRequest(), timeout=_CALL_TIMEOUT_S)
        ):
            await asyncio.sleep(_WORKER_POLL_S)
        while mesh.workers:
            table = await _answers(router.ListWorkers(router_pb2.ListWorkersRequest(), timeout=_CALL_TIMEOUT_S))
            if table and any(worker.state == router_pb2.Worker.STATE_SERVING for worker in table.workers):
                return
            await asyncio.sleep(_WORKER_POLL_S)


async def _answers(call: Awaitable[Answer]) -> Answer | None:
    """The answer, or nothing where the call failed."""
    with contextlib.suppress(grpc.aio.AioRpcError):
        return await call
    return None


@contextlib.asynccontextmanager
async def _probes(mesh: Mesh) -> AsyncIterator[Callable[[Process], Awaitable[bool]]]:
    """Asks Envoy by HTTP and every other process by gRPC health."""
    async with contextlib.AsyncExitStack() as stack:
        channels = {}
        for process in mesh.processes:
            if process.name != "envoy":
                channels[process.name] = await stack.enter_async_context(dial(process.address, mesh.settings.grpc))

        async def probe(process: Process) -> bool:
            if process.name == "envoy":
                return await answers_ok(process.address, "/healthz")
            return await is_serving(channels[process.name])

        yield probe


@contextlib.contextmanager
def _signals(kill: Callable[[], None]) -> Iterator[asyncio.Event]:
    """The event that the first signal sets; the second calls `kill`."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def received() -> None:
        if stop.is_set():
            kill()
        stop.set()

    for number in numbers:
        loop.add_signal_handler(number, received)
    try:
        yield stop
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def _phases(mesh: Mesh) -> list[Phase]:
    """The router first, so that its answers finish while Envoy and the workers still carry them; then the rest."""
    settings = mesh.settings
    rest = tuple(process.name for process in mesh.processes if process.name != "router")
    return [
        Phase(("router",), settings.router.drain_limit_s + STOP_MARGIN_S),
        Phase(rest, settings.worker.drain_limit_s + STOP_MARGIN_S),
    ]


def _ready_lines(mesh: Mesh) -> str:
    found = urls(mesh)
    return (
        f"[bold green]ready[/]  HTTP and gRPC {found['http']}   OpenAI base URL {found['openai']}\n"
        f"       logs {mesh.settings.data_dir / 'logs'}   Ctrl-C stops"
    )
