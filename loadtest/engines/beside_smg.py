"""`python -m loadtest.engines.beside_smg`: two vLLM workers behind this mesh, and two `vllm serve` behind smg.

The same engine, model, machine and load, in turn, over OpenAI's API; CPU is that of every process of each system, its
engines included. smg comes from the peers' harness (PEERS_HOME); vLLM's CPU build from `make engines`.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated

import httpx
import psutil
import typer
from rich.table import Table

from loadtest.load.client import Target
from loadtest.load.clients import open_client
from loadtest.load.collect import Collector, Objectives
from loadtest.load.record import Request
from loadtest.load.runner import Clock, Runner
from loadtest.machine import between, tree_used
from loadtest.mesh import mesh
from loadtest.report import console as new_console
from services.kit.cores import cores
from tests.engines.missing import Missing, environment
from tests.engines.servers import vllm_server
from tests.fakes.tiny_hf import write_tiny_hf
from tests.rpc.worker.harness import free_port

SMG = Path(os.environ.get("PEERS_HOME") or Path.home() / ".cache" / "weft-peers") / "venv-smg" / "bin" / "smg"
READY_LIMIT_S = 120.0
SLOTS = 16
CONTEXT_TOKENS = 1024
FIGURES = ("tokens_per_s", "ttft_p50_ms", "ttft_p99_ms", "itl_p50_ms", "itl_p99_ms", "cpu_us")
PROMPT = "What is kept in room {} of the harbour, and who may see it?"


@dataclass(frozen=True, slots=True)
class System:
    """Where to ask, what for, and every process of it."""

    name: str
    target: str
    model: str
    pids: Sequence[int]


@dataclass(frozen=True, slots=True)
class Run:
    """One closed batch of answers, all at once."""

    tokens_per_s: float
    ttft_p50_ms: float
    ttft_p99_ms: float
    itl_p50_ms: float
    itl_p99_ms: float
    cpu_us: float
    failed: int


@contextmanager
def ours(folder: Path) -> Iterator[System]:
    """The whole mesh with two vLLM workers."""
    python = environment(".venv-vllm", "vLLM")
    variables = {
        "WEFT_WORKER__MAX_RUNNING": str(SLOTS),
        "WEFT_WORKER__CONTEXT_TOKENS": str(CONTEXT_TOKENS),
        "WEFT_WORKER__VLLM__DTYPE": "float32",
        "WEFT_WORKER__VLLM__CPU_KV_CACHE_GIB": "1",
        "WEFT_WORKER__VLLM__ENFORCE_EAGER": "true",
        "WEFT_ROUTER__POLICY": "round_robin",
    }
    model = write_tiny_hf(folder / "tiny")
    options = ("--engine", "vllm", "--model", str(model), "--model-name", "tiny", "--worker-python", str(python))
    with mesh(*options, environment=variables) as found:
        pids = [pid for name, pid in found.pids.items() if name.startswith(("router", "envoy", "worker"))]
        yield System("weft", found.target, "tiny", pids)


@contextmanager
def theirs(folder: Path) -> Iterator[System]:
    """smg in front of two `vllm serve`."""
    with ExitStack() as stack:
        urls = []
        for number in range(2):
            own = folder / str(number)
            own.mkdir()
            # As many threads as `weft up` gives each of two workers, and nothing that the other side does not serve.
            threads = max(1, cores() // 2)
            server = vllm_server(own, slots=SLOTS, context_tokens=CONTEXT_TOKENS, adapters=False, threads=threads)
            urls.append(stack.enter_context(server))
        port = free_port()
        command = [str(SMG), "launch", "--host", "127.0.0.1", "--port", str(port), "--worker-urls", *urls]
        command += ["--policy", "round_robin", "--prometheus-port", str(free_port()), "--log-level", "warn"]
        command += ["--history-backend", "none", "--disable-tokenizer-autoload"]
        with (folder / "smg.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        stack.callback(process.wait)
        stack.callback(process.terminate)
        _wait(f"http://127.0.0.1:{port}/v1/models")
        yield System("smg", f"127.0.0.1:{port}", "tiny", [process.pid, *_servers(urls)])


def _servers(urls: Sequence[str]) -> list[int]:
    """The processes that listen at these URLs."""
    ports = {int(url.rpartition(":")[2]) for url in urls}
    found = {
        one.pid
        for one in psutil.net_connections("tcp")
        if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port in ports and one.pid
    }
    return sorted(found)


def _wait(url: str) -> None:
    until_s = time.monotonic() + READY_LIMIT_S
    while time.monotonic() < until_s:
        try:
            if httpx.get(url, timeout=5.0).is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"{url} does not answer")


async def _ask(system: System, streams: int, tokens: int, seed: int) -> tuple[Collector, float]:
    host, _, port = system.target.rpartition(":")
    clock, collector = Clock(), Collector(Objectives())
    client = open_client("openai", Target(host, int(port), system.model, extra={"temperature": 0}), clock)
    await client.open()
    try:
        wanted = [Request(n, 0.0, (("user", PROMPT.format(n + seed)),), tokens) for n in range(streams)]
        ran = await Runner(client, collector, clock).open_loop(wanted)
    finally:
        await client.close()
        await asyncio.sleep(0)
    return collector, ran.elapsed_s


def measure(system: System, streams: int, tokens: int, seed: int) -> Run:
    """So many answers at once, and what they cost."""
    before = tree_used(system.pids)
    collector, elapsed_s = asyncio.run(_ask(system, streams, tokens, seed))
    spent_s = between(before, tree_used(system.pids))
    whole = collector.whole
    count = max(1, whole.tokens)
    return Run(
        count / elapsed_s,
        whole.ttft.quantile_s(50.0) * 1e3,
        whole.ttft.quantile_s(99.0) * 1e3,
        whole.chunk_gap.quantile_s(50.0) * 1e3,
        whole.chunk_gap.quantile_s(99.0) * 1e3,
        spent_s / count * 1e6,
        whole.failed,
    )


def main(
    streams: Annotated[list[int] | None, typer.Option(help="Answers at once; may be repeated.")] = None,
    tokens: Annotated[int, typer.Option(min=8, help="Tokens of each answer.")] = 200,
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each.")] = 5,
) -> None:
    """Measures both systems and shows medians.

    Example: python -m loadtest.engines.beside_smg --streams 16 --repeats 5
    """
    console = new_console()
    table = Table(
        title=f"two vLLM (CPU) engines, answers of {tokens} tokens, medians of {repeats}", title_justify="left"
    )
    for name in ("system", "streams", "tok/s", "TTFT p50", "p99", "gap p50", "p99", "CPU µs/token", "failed"):
        table.add_column(name, justify="left" if name == "system" else "right")
    if not SMG.exists():
        console.print(f"smg is not at {SMG}: set PEERS_HOME, or run the harness's setup", style="yellow")
    for open_system in (ours, theirs) if SMG.exists() else (ours,):
        with tempfile.TemporaryDirectory(prefix="weft-smg-") as folder:
            try:
                with console.status("starting two engines"), ExitStack() as stack:
                    system = stack.enter_context(open_system(Path(folder)))
                    for count in streams or (1, 16):
                        measure(system, count, 16, 1000)
                        runs = [measure(system, count, tokens, 2000 + 100 * number) for number in range(repeats)]
                        middle = [median(getattr(run, key) for run in runs) for key in FIGURES]
                        cells = [f"{value:,.1f}" for value in middle]
                        table.add_row(system.name, str(count), *cells, str(sum(run.failed for run in runs)))
            except Missing as error:
                sys.exit(str(error))
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
