"""`python -m loadtest.engines.table`: each engine that runs here, alone, in a worker and behind the mesh.

The workers are those of the conformance suite, with its tiny models: figures say what a worker and the mesh add to an
engine, not how fast a model is.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import grpc.aio
import typer
from rich.table import Table

from loadtest.load.client import Target
from loadtest.load.clients import open_client
from loadtest.load.collect import Collector, Objectives
from loadtest.load.record import Request
from loadtest.load.runner import Clock, Runner
from loadtest.machine import between, tree_used
from loadtest.mesh import Mesh, mesh
from loadtest.report import console as new_console
from tests.engines.engines import ENGINES, EngineCase
from tests.engines.missing import Missing
from tests.engines.process import EngineWorker, Launch
from weft.chat.v1 import chat_pb2
from weft.router.v1 import router_pb2
from weft.router.v1.router_pb2_grpc import RouterServiceStub
from weft.worker.v1 import worker_pb2
from weft.worker.v1.worker_pb2_grpc import WorkerServiceStub

ROOT = Path(__file__).resolve().parents[2]
STREAMS = (1, 16)
MAX_RUNNING = 16
SERVING_LIMIT_S = 60.0
BARE_LIMIT_S = 300.0
BARE = {"llamacpp": sys.executable, "vllm": str(ROOT / ".venv-vllm" / "bin" / "python")}


@dataclass(slots=True)
class Row:
    """One engine's figures, one value for each round. CPU in µs a token; `parts` by process."""

    name: str
    ready_s: list[float] = field(default_factory=list)
    tokens_per_s: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    cpu_us: dict[tuple[str, int], list[float]] = field(default_factory=dict)

    def note(self, way: str, streams: int, tokens_per_s: float, cpu_us: float) -> None:
        """One measurement."""
        self.tokens_per_s.setdefault((way, streams), []).append(tokens_per_s)
        self.cpu_us.setdefault((way, streams), []).append(cpu_us)


def bare(engine: str, model: Path, streams: int, tokens: int) -> Mapping[str, float]:
    """The engine without a worker, in a process of its own."""
    command = [BARE[engine], "-m", "loadtest.engines.bare", engine, str(model), str(streams), str(tokens)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=BARE_LIMIT_S, cwd=ROOT, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-1500:]}")
    found: Mapping[str, float] = json.loads(lines[-1])
    return found


@contextmanager
def worker(launch: Launch, routers: list[str], folder: Path) -> Iterator[tuple[EngineWorker, float]]:
    """A worker with this engine, announced to these routers, and how long it took to serve."""
    settings = {**launch.settings, "routers": routers, "max_running": MAX_RUNNING}
    found = EngineWorker(replace(launch, settings=settings), folder)
    began_s = time.perf_counter()
    try:
        found.ensure()
        yield found, time.perf_counter() - began_s
    finally:
        found.close()


async def direct(address: str, prompts: list[worker_pb2.Prompt], tokens: int) -> tuple[int, float]:
    """So many answers at once over Generate: tokens and seconds."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = WorkerServiceStub(channel)

        async def answer(prompt: worker_pb2.Prompt) -> int:
            count = 0
            sampling = chat_pb2.Sampling(max_tokens=tokens, temperature=0.0)
            async for event in stub.Generate(worker_pb2.GenerateRequest(prompt=prompt, sampling=sampling)):
                count += len(event.delta.token_ids)
            return count

        began_s = time.perf_counter()
        counts = await asyncio.gather(*map(answer, prompts))
        return sum(counts), time.perf_counter() - began_s


async def through_mesh(target: str, model: str, streams: int, tokens: int) -> tuple[int, float]:
    """So many answers at once over OpenAI's API through Envoy: tokens and seconds."""
    host, _, port = target.rpartition(":")
    clock, collector = Clock(), Collector(Objectives())
    # Greedy, as the answers of the worker alone are: the same work for the engine.
    client = open_client("openai", Target(host, int(port), model, extra={"temperature": 0}), clock)
    await client.open()
    try:
        prompt = "What is kept in room {} of the harbour, and who may see it?"
        wanted = [Request(n, 0.0, (("user", prompt.format(n)),), tokens) for n in range(streams)]
        ran = await Runner(client, collector, clock).open_loop(wanted)
    finally:
        await client.close()
        await asyncio.sleep(0)
    if collector.whole.failed:
        raise RuntimeError(f"{collector.whole.failed} answers failed: {collector.whole.examples}")
    return collector.whole.tokens, ran.elapsed_s


async def serving(target: str) -> str:
    """Waits until the router serves with a worker; the worker's model."""
    async with asyncio.timeout(SERVING_LIMIT_S), grpc.aio.insecure_channel(target) as channel:
        stub = RouterServiceStub(channel)
        while True:
            table = await stub.ListWorkers(router_pb2.ListWorkersRequest())
            for row in table.workers:
                if row.state == router_pb2.Worker.STATE_SERVING:
                    return row.model
            await asyncio.sleep(0.05)


def measure(case: EngineCase, front: Mesh, row: Row, tokens: int, folder: Path) -> None:
    """One round of one engine: in a worker, behind the mesh, and, where it has such a form, alone."""
    with case.open(folder) as launch, worker(launch, [front.addresses["router"]], folder) as (found, ready_s):
        row.ready_s.append(ready_s)
        for streams in STREAMS:
            prompts = list(case.questions[:streams])
            asyncio.run(direct(found.address, prompts, 8))
            row.note("worker", streams, *_timed([found.pid], direct(found.address, prompts, tokens)))
        if case.name != "reader":
            # The reader answers from sources alone, which only a question over an index brings.
            served = asyncio.run(serving(front.target))
            roots = [front.pids["router"], front.pids["envoy"]]
            for streams in STREAMS:
                row.note("mesh", streams, *_timed(roots, through_mesh(front.target, served, streams, tokens)))
        model = launch.settings.get("model")
    if case.name in BARE and model is not None and Path(BARE[case.name]).exists():
        for streams in STREAMS:
            said = bare(case.name, Path(model), streams, tokens)
            row.note("bare", streams, said["tokens_per_s"], said["cpu_us"])


def _timed(roots: list[int], work: Coroutine[Any, Any, tuple[int, float]]) -> tuple[float, float]:
    """Tokens a second, and CPU of these process trees in µs a token."""
    before = tree_used(roots)
    count, elapsed_s = asyncio.run(work)
    spent_s = between(before, tree_used(roots))
    return count / elapsed_s, spent_s / max(1, count) * 1e6


def show(rows: Sequence[Row], repeats: int) -> Table:
    """Medians over the rounds; what stands before the slash is one answer, what stands after it sixteen at once."""
    table = Table(title=f"engines, medians of {repeats}: 1 / 16 answers at once", title_justify="left")
    table.add_column("engine")
    names = ("ready", "bare t/s", "worker t/s", "mesh t/s", "bare µs", "worker µs", "mesh µs")
    for name in names:
        table.add_column(name, justify="right")
    for row in rows:
        rates = [_pair(row.tokens_per_s, way, ",.0f") for way in ("bare", "worker", "mesh")]
        costs = [_pair(row.cpu_us, way, ",.0f") for way in ("bare", "worker", "mesh")]
        table.add_row(row.name, f"{median(row.ready_s):.1f}", *rates, *costs)
    return table


def _pair(found: Mapping[tuple[str, int], Sequence[float]], way: str, form: str) -> str:
    values = [found.get((way, streams)) for streams in STREAMS]
    return " / ".join(format(median(one), form) if one else "–" for one in values)


def main(
    only: Annotated[list[str] | None, typer.Option(help="Engines, as the conformance suite names them.")] = None,
    tokens: Annotated[int, typer.Option(min=8, help="Tokens of each answer.")] = 200,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds.")] = 3,
) -> None:
    """Measures every engine that runs on this machine.

    Example: python -m loadtest.engines.table --only llamacpp --only vllm --repeats 3
    """
    console = new_console()
    rows = []
    for case in ENGINES:
        if only and case.name not in only:
            continue
        row = Row(case.name)
        try:
            for number in range(repeats):
                with (
                    console.status(f"{case.name}, round {number + 1}"),
                    tempfile.TemporaryDirectory(prefix="weft-engines-") as folder,
                    mesh("--workers", "0") as front,
                ):
                    measure(case, front, row, tokens, Path(folder))
        except Missing as error:
            console.print(f"{case.name}: {error}", style="yellow")
        if row.ready_s:
            rows.append(row)
    console.print(show(rows, repeats))


if __name__ == "__main__":
    typer.run(main)
