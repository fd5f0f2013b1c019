"""Plays a trace to simulated workers through the router's real core, in simulated time. It starts no process."""

import heapq
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.sim_worker import FirstToken, Gpu, Job, SimWorker
from loadtest.traces import BLOCK_TOKENS, TraceRequest
from services.router.core.pick import Refusal, Wanted
from services.router.core.placer import Need, Placed, Placer
from services.router.core.policies import Weights
from services.router.core.prefix import BLOCK_BYTES
from services.router.core.table import WorkerTable
from services.router.core.worker import Hello, Load

BYTES_PER_TOKEN = 4
_PARTS = BLOCK_TOKENS * BYTES_PER_TOKEN // BLOCK_BYTES
_MODEL = "model"


@dataclass(frozen=True, slots=True)
class Answered:
    """One request as its client saw it. `cached_tokens` is the worker's own count."""

    worker: int
    ttft_s: float
    total_s: float
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int


@dataclass(slots=True)
class _Case:
    request: TraceRequest
    need: Need
    placed: Placed | None = None
    ttft_s: float = 0.0
    cached_tokens: int = 0


class Fleet:
    """Simulated workers behind one placer. `run` plays a trace once."""

    def __init__(self, gpus: Sequence[Gpu], policy: str, weights: Weights, seed: int) -> None:
        self.workers = [SimWorker(gpu) for gpu in gpus]
        self._table = WorkerTable(len(gpus), weights.prefix_blocks_per_worker)
        self._placer = Placer(self._table, policy, weights, random.Random(seed))
        self._names = [f"w{number:03d}" for number in range(len(gpus))]
        for name, gpu in zip(self._names, gpus, strict=True):
            hello = Hello(name, "1", _MODEL, "sim", gpu.max_running, gpu.max_waiting, 1_000_000)
            self._table.announce(name, f"{name}:1", 0.0)
            self._table.link_up(name, hello, 0.0)
        self._due: list[tuple[float, int]] = []
        self._cases: dict[int, _Case] = {}
        self._queue: deque[int] = deque()
        self.answered: list[Answered] = []

    def __repr__(self) -> str:
        return f"Fleet({self.workers})"

    def run(self, requests: Sequence[TraceRequest]) -> None:
        """Until every request is answered."""
        for key, request in enumerate(requests):
            self._until(request.arrival_s)
            self._cases[key] = _Case(request, _need(request))
            self._queue.append(key)
            self._place(request.arrival_s)
        self._until(float("inf"))
        assert not self._cases, "an answer is missing"

    def _until(self, now_s: float) -> None:
        """Lets the workers go on to `now_s`."""
        while self._due and self._due[0][0] <= now_s:
            at_s, number = heapq.heappop(self._due)
            if at_s == self.workers[number].next_s:
                self._step(number, at_s)

    def _step(self, number: int, now_s: float) -> None:
        """One worker's steps are over: reads what it sends, then places what waited for room."""
        worker = self.workers[number]
        over: list[int] = []
        for event in worker.advance(now_s):
            case = self._cases[event.key]
            assert case.placed is not None
            if isinstance(event, FirstToken):
                self._placer.first_token(case.placed, event.at_s)
                case.ttft_s = event.at_s - case.request.arrival_s
                case.cached_tokens = event.cached_tokens
            else:
                over.append(event.key)
        self._report(number)
        for key in over:
            case = self._cases.pop(key)
            assert case.placed is not None
            request = case.request
            total_s, tokens = now_s - request.arrival_s, (request.prompt_tokens, request.output_tokens)
            self.answered.append(Answered(number, case.ttft_s, total_s, *tokens, case.cached_tokens))
            self._placer.release(case.placed, finished=True, output_tokens=case.request.output_tokens)
        self._push(number)
        if over:
            self._place(now_s)

    def _place(self, now_s: float) -> None:
        """Places those that wait, in order of arrival, until one finds every worker full."""
        while self._queue:
            case = self._cases[self._queue[0]]
            placed = self._placer.place(Wanted(_MODEL), case.need, now_s)
            if isinstance(placed, Refusal):
                return
            key = self._queue.popleft()
            case.placed = placed
            number = self._names.index(placed.worker.worker_id)
            request, worker = case.request, self.workers[number]
            worker.advance(now_s)
            taken = worker.submit(Job(key, request.prompt_tokens, request.output_tokens, request.blocks), now_s)
            assert taken, "the router's count of places is the worker's"
            self._placer.started(placed, request.prompt_tokens, 0)
            self._push(number)

    def _report(self, number: int) -> None:
        reading = self.workers[number].reading()
        load = Load(
            reading.running,
            reading.waiting,
            reading.queued_tokens,
            reading.kv_usage,
            reading.step_count,
            reading.step_time_s,
        )
        self._table.report(self._names[number], load)

    def _push(self, number: int) -> None:
        worker = self.workers[number]
        if worker.next_s != float("inf"):
            heapq.heappush(self._due, (worker.next_s, number))


def _need(request: TraceRequest) -> Need:
    """The prompt as the router would see it: each of the trace's blocks is several of the router's, of 512 bytes."""
    size_bytes = request.prompt_tokens * BYTES_PER_TOKEN
    hashes = [block * _PARTS + part for block in request.blocks for part in range(_PARTS)]
    return Need(size_bytes, tuple(hashes[: size_bytes // BLOCK_BYTES]), request.session)
