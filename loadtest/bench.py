"""`python -m loadtest.bench`: what Weft costs and how fast it is on this machine, beside other routers, as medians."""

import asyncio
import json
import shlex
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
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
IDLE_S = 2.0
PAIRS = 60
PAIR_TTFT_MS, PAIR_ITL_MS = 5.0, 2.0
"""Pace of the workers where one stream is compared with another: every process sleeps between two tokens."""
ENVIRONMENT = {
    "WEFT_ROUTER__LANE": "true",
    "WEFT_WORKER__MAX_RUNNING": "4096",
    "WEFT_WORKER__SIM__TOKEN_TEXT": MARKER,
}

T = TypeVar("T")


def ways(found: Mesh, loadgen: Loadgen | None) -> list[Way]:
    """Into the router: by gRPC on both of its ports, by gRPC through Envoy, and as an OpenAI client through Envoy."""
    router, envoy, workers = [found.pids["router"]], [found.pids["envoy"]], found.workers
    return [
        Way("Weft router, gRPC", found.addresses["router"], router, [], workers, router_grpc),
        Way("Weft lane, gRPC", found.addresses["lane"], router, [], workers, router_grpc),
        Way("Weft Envoy, gRPC", found.target, router, envoy, workers, router_grpc),
        Way("Weft Envoy, SSE", found.target, router, envoy, workers, loadgen or openai_sse),
    ]


WAYS = 4


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
        added = 1 + peers if peers else 0
        return self.ttft_repeats + WARM_UP + self.repeats * (WAYS + peers + added + len(self.streams) * (WAYS + peers))


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
        with self._mesh(0.0, 0.0) as weft:
            self.found.ready_s = weft.ready_s
            self.found.idle_mib = {name: weft.memory_bytes(name) / 2**20 for name in weft.pids if name != "up"}
            self.found.idle_cores = _idle_cores(weft)
            self._first_tokens(weft)
            for repeat in range(self._plan.repeats):
                for way in self._ways(weft):
                    self._requests(way)
                with self._peers(repeat) as (workers, peers):
                    for peer in peers:
                        workers.pace(0.0, 0.0)
                        self._requests(peer)

    def _first_tokens(self, weft: Mesh) -> None:
        worker = Way("worker, gRPC", weft.addresses["worker-0"], [], [], weft.workers, worker_grpc)
        self._say("first token, the ways in turn")
        wait_for_quiet(QUIET_CORES, self._plan.quiet_wait_s)
        turns = ttft_in_turn([worker, *ways(weft, None)], self._plan.ttft_repeats, WARM_UP, self._tick)
        self.found.ttft_ms = asyncio.run(turns)

    def _requests(self, way: Way) -> None:
        self.found.requests.append(self._measured(f"requests: {way.name}", partial(run_requests, way)))

    def added(self) -> None:
        """One stream at a time, in turn with a worker of the peers that is called directly."""
        if self._harness is None:
            return
        with self._mesh(PAIR_TTFT_MS, PAIR_ITL_MS) as weft:
            *_, web = self._ways(weft)
            for repeat in range(self._plan.repeats):
                with self._peers(repeat) as (workers, peers):
                    for way in chain([web], peers):
                        workers.pace(PAIR_TTFT_MS, PAIR_ITL_MS)
                        work = partial(run_added, way, self._harness.reference, PAIRS)
                        self.found.added.append(self._measured(f"first token: {way.name}", work))

    def paced(self) -> None:
        """With workers that send a token each ITL_MS: what a token costs and what many clients see."""
        with self._mesh(0.0, ITL_MS) as weft:
            for repeat in range(self._plan.repeats):
                for way in self._ways(weft):
                    self._widths(way)
                with self._peers(repeat) as (workers, peers):
                    for peer in peers:
                        workers.pace(0.0, ITL_MS)
                        self._widths(peer)

    def _widths(self, way: Way) -> None:
        for streams in self._plan.streams:
            work = partial(run_streams, way, streams, self._plan.tokens)
            run = self._measured(f"{streams} streams: {way.name}", work)
            self.found.runs.append(run)

    @contextmanager
    def _mesh(self, ttft_ms: float, itl_ms: float) -> Iterator[Mesh]:
        self._say("starting the mesh")
        pace = ("--sim-ttft-ms", str(ttft_ms), "--sim-itl-ms", str(itl_ms))
        with mesh("--engine", "sim", *pace, environment=ENVIRONMENT) as weft:
            yield weft

    def _ways(self, weft: Mesh) -> list[Way]:
        return ways(weft, self._harness.loadgen if self._harness else None)

    @contextmanager
    def _peers(self, repeat: int) -> Iterator[tuple[PeerWorkers, Iterator[Way]]]:
        """Their workers, and each peer while it runs, one after the other; the order changes with each repeat."""
        if self._harness is None:
            yield PeerWorkers(None), iter(())
            return
        first = repeat % len(self._systems)
        names = [*self._systems[first:], *self._systems[:first]]
        with (
            self._harness.workers() as workers,
            # Closed here, so that an error in the middle stops the peer that runs.
            closing(self._started(self._harness, workers, names)) as peers,
        ):
            yield workers, peers

    def _started(self, harness: Harness, workers: PeerWorkers, names: Sequence[str]) -> Generator[Way, None, None]:
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
    # What was started is stopped on SIGTERM too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    console = new_console()
    plan = Plan(streams or [10, 100, 200, 1000], tokens, repeats, ttft_repeats, quiet_wait)
    harness = _harness(peer or list(PEERS), console) if peers else None
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bench = Bench(plan, harness, progress)
        try:
            bench.instant()
            bench.added()
            bench.paced()
        except NoPeers as error:
            raise SystemExit(str(error)) from error
        finally:
            # What was measured before an interruption is kept.
            if out is not None:
                out.write_text(json.dumps(bench.found.to_json(), indent=1))
    show(bench.found, console)
    if out is not None:
        console.print(f"every number: {out}")


if __name__ == "__main__":
    typer.run(main)
