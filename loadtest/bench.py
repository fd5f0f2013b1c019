"""`python -m loadtest.bench`: what Weft costs and how fast it is on this machine, beside other routers, as medians."""

import asyncio
import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from loadtest.figures import QUIET_CORES, Figures
from loadtest.loadgen import MARKER, Loadgen
from loadtest.machine import Moment, between, describe, tree_used, wait_for_quiet
from loadtest.measure import Way, run_added, run_requests, run_streams, ttft_in_turn
from loadtest.mesh import Mesh, mesh
from loadtest.peers import DIRECT, PEERS, Harness, NoPeers, PeerWorkers, find
from loadtest.report import console as new_console
from loadtest.report import show
from loadtest.streams import openai_sse, router_grpc, worker_grpc

ITL_MS = 20.0
WARM_UP = 5
PAIRS = 200
IDLE_S = 2.0
ENVIRONMENT = {"WEFT_WORKER__MAX_RUNNING": "4096", "WEFT_WORKER__SIM__TOKEN_TEXT": MARKER}

T = TypeVar("T")


def ways(found: Mesh, loadgen: Loadgen | None) -> list[Way]:
    """Into the router: by gRPC, by gRPC through Envoy, and as an OpenAI client through Envoy."""
    router, envoy, workers = [found.pids["router"]], [found.pids["envoy"]], found.workers
    return [
        Way("Weft router, gRPC", found.addresses["router"], router, [], workers, router_grpc),
        Way("Weft Envoy, gRPC", found.target, router, envoy, workers, router_grpc),
        Way("Weft Envoy, SSE", found.target, router, envoy, workers, loadgen or openai_sse),
    ]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    streams: Sequence[int]
    tokens: int
    repeats: int
    ttft_repeats: int
    quiet_wait_s: float

    def steps(self, peers: int) -> int:
        """Measurements in all; `peers` is how many systems besides Weft, 0 where there is no harness."""
        instant = (1 + 2 + 2 * peers) if peers else 2
        return self.ttft_repeats + WARM_UP + self.repeats * (instant + len(self.streams) * (3 + peers))


class Bench:
    """One benchmark under way; `found` fills as it goes on."""

    def __init__(self, plan: Plan, harness: Harness | None, progress: Progress) -> None:
        self.found = Figures(
            machine=describe(),
            when=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
            command=shlex.join(["python", "-m", "loadtest.bench", *sys.argv[1:]]),
        )
        self._plan = plan
        self._harness = harness
        self._progress = progress
        self._systems = [DIRECT, *harness.names] if harness else []
        self._task: TaskID = progress.add_task("starting", total=plan.steps(len(self._systems)))

    def __repr__(self) -> str:
        return f"Bench(runs={len(self.found.runs)} systems={self._systems})"

    def instant(self) -> None:
        """With workers that answer at once: memory, the first token, and what a request costs."""
        self._say("starting the mesh")
        with mesh("--engine", "sim", "--sim-ttft-ms", "0", "--sim-itl-ms", "0", environment=ENVIRONMENT) as weft:
            self.found.ready_s = weft.ready_s
            self.found.idle_mib = {name: weft.memory_bytes(name) / 2**20 for name in weft.pids if name != "up"}
            self.found.idle_cores = _idle_cores(weft)
            mine = ways(weft, self._harness.loadgen if self._harness else None)
            self._first_tokens(weft)
            for repeat in range(self._plan.repeats):
                self._instant_weft(mine)
                with self._peers(repeat, 0.0) as peers:
                    for peer in peers:
                        self._instant_http(peer)

    def _first_tokens(self, weft: Mesh) -> None:
        worker = Way("worker, gRPC", weft.addresses["worker-0"], [], [], weft.workers, worker_grpc)
        self._say("first token, the ways in turn")
        wait_for_quiet(QUIET_CORES, self._plan.quiet_wait_s)
        turns = ttft_in_turn([worker, *ways(weft, None)], self._plan.ttft_repeats, WARM_UP, self._tick)
        self.found.ttft_ms = asyncio.run(turns)

    def _instant_weft(self, mine: Sequence[Way]) -> None:
        direct, _, web = mine
        self.found.requests.append(self._measured(f"requests: {direct.name}", lambda: run_requests(direct)))
        if self._harness is None:
            self.found.requests.append(self._measured(f"requests: {web.name}", lambda: run_requests(web)))
            return
        with self._harness.workers() as workers:
            workers.pace(0.0, 0.0)
            self._instant_http(web)

    def _instant_http(self, way: Way) -> None:
        assert self._harness is not None
        reference = self._harness.reference
        self.found.added.append(self._measured(f"first token: {way.name}", lambda: run_added(way, reference, PAIRS)))
        self.found.requests.append(self._measured(f"requests: {way.name}", lambda: run_requests(way)))

    def paced(self) -> None:
        """With workers that send a token each ITL_MS: what a token costs and what many clients see."""
        self._say("starting the mesh")
        pace = ("--sim-ttft-ms", "0", "--sim-itl-ms", str(ITL_MS))
        with mesh("--engine", "sim", *pace, environment=ENVIRONMENT) as weft:
            mine = ways(weft, self._harness.loadgen if self._harness else None)
            for repeat in range(self._plan.repeats):
                for way in mine:
                    self._widths(way)
                with self._peers(repeat, ITL_MS) as peers:
                    for peer in peers:
                        self._widths(peer)

    def _widths(self, way: Way) -> None:
        for streams in self._plan.streams:
            work = partial(run_streams, way, streams, self._plan.tokens)
            run = self._measured(f"{streams} streams: {way.name}", work)
            self.found.runs.append(run)

    @contextmanager
    def _peers(self, repeat: int, itl_ms: float) -> Iterator[Iterator[Way]]:
        """Each peer while it runs, one after the other, in an order that changes from repeat to repeat."""
        if self._harness is None:
            yield iter(())
            return
        first = repeat % len(self._systems)
        with self._harness.workers() as workers:
            workers.pace(0.0, itl_ms)
            yield self._started(self._harness, workers, [*self._systems[first:], *self._systems[:first]])

    def _started(self, harness: Harness, workers: PeerWorkers, names: Sequence[str]) -> Iterator[Way]:
        for name in names:
            self._say(f"starting {name}")
            with harness.peer(name) as peer:
                shown = "no router" if name == DIRECT else name
                yield Way(shown, peer.target, peer.pids, [], workers.pids, harness.loadgen)

    def _measured(self, what: str, work: Callable[[], T]) -> T:
        self._say(what)
        wait_for_quiet(QUIET_CORES, self._plan.quiet_wait_s)
        run = work()
        self._tick()
        return run

    def _say(self, what: str) -> None:
        self._progress.update(self._task, description=what)

    def _tick(self) -> None:
        self._progress.advance(self._task)


def _idle_cores(weft: Mesh) -> float:
    """What the mesh takes while nobody asks."""
    pids = [weft.pids["up"]]
    before, start = tree_used(pids), Moment.now()
    time.sleep(IDLE_S)
    return between(before, tree_used(pids)) / (Moment.now().at_s - start.at_s)


def _harness(names: Sequence[str], console: Console) -> Harness | None:
    """The peers, or None after a sentence that says why not."""
    try:
        with console.status("looking for peers, and installing those that are missing"):
            return find(names)
    except NoPeers as error:
        console.print(str(error), highlight=False)
        return None


def main(
    streams: Annotated[list[int] | None, typer.Option(help="Answers at once; may be given several times.")] = None,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens of each answer.")] = 200,
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each scenario.")] = 3,
    ttft_repeats: Annotated[int, typer.Option(min=1, help="Answers of each way at one stream.")] = 100,
    peers: Annotated[bool, typer.Option(help="Measure other routers too.")] = True,
    peer: Annotated[
        list[str] | None, typer.Option(help=f"Which of {', '.join(PEERS)}; all of them by default.")
    ] = None,
    quiet_wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for others on this machine.")] = 10.0,
    out: Annotated[Path | None, typer.Option(help="Write every number to this JSON file.")] = None,
) -> None:
    """Measures a mesh of two `sim` workers on this machine, beside other routers in front of two simulated workers.

    PEERS_DIR names the folder of the peers' harness. It installs them into PEERS_HOME the first time.

    Example: python -m loadtest.bench --streams 10 --streams 100 --repeats 3 --no-peers
    """
    console = new_console()
    plan = Plan(streams or [10, 100, 1000], tokens, repeats, ttft_repeats, quiet_wait)
    harness = _harness(peer or list(PEERS), console) if peers else None
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bench = Bench(plan, harness, progress)
        try:
            bench.instant()
            bench.paced()
        except NoPeers as error:
            raise SystemExit(str(error)) from error
    show(bench.found, console)
    if out is not None:
        out.write_text(json.dumps(bench.found.to_json(), indent=1))
        console.print(f"every number: {out}")


if __name__ == "__main__":
    typer.run(main)
