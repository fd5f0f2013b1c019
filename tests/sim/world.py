"""The real dispatch, queue, placing and relay over workers that exist in simulated time alone, and fail by a seed."""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from prometheus_client import CollectorRegistry

from services.kit.settings.router import FailoverSettings, QueueSettings, RouterSettings
from services.router.answer import Answer
from services.router.core.admit import QueueLimits
from services.router.core.breaker import BreakerLimits
from services.router.core.budget import RetryBudget
from services.router.core.chat import Chat, FinishReason, Usage
from services.router.core.health import PulseLimits
from services.router.core.placer import Placer
from services.router.core.policies import Weights
from services.router.core.recover import Ended, Failure, FailureKind
from services.router.core.table import WorkerTable
from services.router.core.worker import Hello, Load
from services.router.dispatch import Dispatch
from services.router.flow import Flow
from services.router.metrics import RouterMetrics
from services.router.monitor import Monitor
from services.router.placing import Placing
from services.router.relay import LinkRelay
from services.router.retrieval import RetrieverLink
from services.router.seating import Seating
from services.router.sourcing import Sourcing
from services.router.waiting import WaitingRoom
from services.router.watchers import Watchers
from weft.chat.v1.chat_pb2 import TokenLogprob
from weft.worker.v1 import worker_pb2

MODEL = "m"
ANSWER_TOKENS_LIMIT = 60
CHARACTERS = 4
"""In a token of a worker that knows text alone."""


def token(prompt: str, index: int) -> int:
    """The token that every right answer to the prompt has at this place."""
    return random.Random(f"{prompt} {index}").randrange(1 << 20)


def prose(prompt: str) -> str:
    """The text of every right answer to the prompt by workers that know text alone; longer than any of them."""
    return "".join(f" {token(prompt, index):07d}" for index in range(ANSWER_TOKENS_LIMIT))


@dataclass(slots=True)
class _Request:
    flow: Flow
    prompt: str
    index: int
    end: int
    prefill_steps: int
    at: int = 0
    held: str = ""


@dataclass
class SimWorker:
    """One engine step each `itl_s` brings a token to each running request; over its limits it refuses.

    It is a link too: `start` and `leave` are what the relay calls.
    """

    worker_id: str
    itl_s: float
    max_running: int
    max_waiting: int
    requests: dict[int, _Request] = field(default_factory=dict)
    waiting: dict[int, _Request] = field(default_factory=dict)
    steps: int = 0
    number: int = 0
    hung: bool = False
    life: int = 0
    peak: int = 0
    broken: str = ""

    def hello(self) -> Hello:
        """Who it is, in this life."""
        return Hello(
            self.worker_id,
            f"{self.worker_id}-{self.life}",
            MODEL,
            "sim",
            self.max_running,
            self.max_waiting,
            100_000,
            tokenizer_fingerprint="sim",
        )

    def load(self) -> Load:
        """Its reading of itself."""
        return Load(len(self.requests), len(self.waiting), 0, 0.0, self.steps, self.itl_s, broken=self.broken)

    @property
    def under_way(self) -> int:
        """See ports.LinkView."""
        return len(self.requests) + len(self.waiting)

    def abandon(self, failure: Failure) -> None:
        """See ports.LinkView."""
        for request in [*self.requests.values(), *self.waiting.values()]:
            request.flow.abandon(failure)

    def start(self, flow: Flow, message: worker_pb2.Start) -> int:
        """See Link.start."""
        self.number += 1
        number = self.number
        flow.carried_by(lambda: self.leave(number))
        loop = asyncio.get_running_loop()
        if self.broken:
            loop.call_soon(flow.end, _broken())
            return number
        if len(self.requests) + len(self.waiting) >= self.max_running + self.max_waiting:
            loop.call_soon(flow.end, Failure(FailureKind.FULL, "full", "FULL"))
            return number
        prompt = message.prompt.conversation.messages[-1].content
        done = len(message.resume_token_ids)
        request = _Request(flow, prompt, done, message.sampling.max_tokens, 1 + len(prompt) % 7)
        self.resume(request, message)
        (self.requests if len(self.requests) < self.max_running else self.waiting)[number] = request
        self.peak = max(self.peak, self.under_way)
        loop.call_soon(flow.started, len(prompt), 0)
        return number

    def resume(self, request: _Request, message: worker_pb2.Start) -> None:
        """Checks what the router says that the client has."""
        done = len(message.resume_token_ids)
        right = [token(request.prompt, i) for i in range(done)]
        assert list(message.resume_token_ids) == right, "resumed from wrong tokens"
        assert not message.resume_text

    def delta(self, request: _Request) -> worker_pb2.Delta:
        """The request's next token."""
        ids = [token(request.prompt, request.index)]
        return worker_pb2.Delta(index=request.index, token_ids=ids, text=f" {ids[0]}")

    def leave(self, number: int) -> None:
        """See Link.leave."""
        self.requests.pop(number, None)
        self.waiting.pop(number, None)

    def step(self) -> None:
        """One engine step."""
        self.steps += 1
        while self.waiting and len(self.requests) < self.max_running:
            number = next(iter(self.waiting))
            self.requests[number] = self.waiting.pop(number)
        for number, request in list(self.requests.items()):
            if request.prefill_steps:
                request.prefill_steps -= 1
                continue
            if request.index < request.end:
                request.flow.tokens(self.delta(request))
                request.index += 1
            if request.index >= request.end:
                self.requests.pop(number, None)
                request.flow.end(Ended(FinishReason.LENGTH, Usage(len(request.prompt), 0, request.end)))


class TextWorker(SimWorker):
    """Knows text alone, holds some of it back as for stop strings, and goes on from what the client has of it."""

    def hello(self) -> Hello:
        """See SimWorker."""
        return replace(super().hello(), text_only=True, tokenizer_fingerprint=f"text:{MODEL}")

    def resume(self, request: _Request, message: worker_pb2.Start) -> None:
        """See SimWorker."""
        assert not any(message.resume_token_ids)
        assert prose(request.prompt).startswith(message.resume_text), "resumed from wrong text"
        request.at = len(message.resume_text)

    def delta(self, request: _Request) -> worker_pb2.Delta:
        """See SimWorker."""
        request.held += prose(request.prompt)[request.at : request.at + CHARACTERS]
        request.at += CHARACTERS
        text = ""
        if request.index % 3 or request.index + 1 == request.end:
            text, request.held = request.held, ""
        return worker_pb2.Delta(index=request.index, token_ids=[0], text=text)


class SimFleet:
    """Runs workers in simulated time, and breaks them: the table, the monitor and the queue hear of it as of links."""

    def __init__(self, workers: list[SimWorker], table: WorkerTable, watchers: Watchers, now: Callable[[], float]):
        self.workers = {worker.worker_id: worker for worker in workers}
        self._up: set[str] = set()
        self._table = table
        self._watchers = watchers
        self._now = now

    def link(self, worker_id: str) -> SimWorker | None:
        """The worker, while its link is up."""
        return self.workers[worker_id] if worker_id in self._up else None

    def up(self, worker: SimWorker, *, fresh: bool) -> None:
        """The worker's link comes up; `fresh` says that its process is new."""
        if worker.worker_id in self._up:
            return
        if fresh:
            worker.life, worker.steps = worker.life + 1, 0
        worker.hung, worker.broken = False, ""
        self._table.announce(worker.worker_id, f"{worker.worker_id}:1", self._now())
        row = self._table.link_up(worker.worker_id, worker.hello(), self._now())
        self._up.add(worker.worker_id)
        self._watchers.link_up(row, worker)  # type: ignore[arg-type] # the simulation has no two workers of one id

    def down(self, worker: SimWorker) -> None:
        """The worker dies with all that it has."""
        if worker.worker_id not in self._up:
            return
        self._up.discard(worker.worker_id)
        self._table.link_down(worker.worker_id, "died", self._now())
        self._watchers.link_down(worker.worker_id)
        lost = [*worker.requests.values(), *worker.waiting.values()]
        worker.requests.clear()
        worker.waiting.clear()
        for request in lost:
            request.flow.end(Failure(FailureKind.LINK_LOST, "died", "WORKER_LOST"))

    def break_engine(self, worker: SimWorker) -> None:
        """The worker's engine ends all that it has, and says with its next report why it takes no more."""
        worker.broken = "the engine broke"
        lost = [*worker.requests.values(), *worker.waiting.values()]
        worker.requests.clear()
        worker.waiting.clear()
        for request in lost:
            request.flow.end(_broken())

    async def run(self, worker: SimWorker) -> None:
        """Steps and reports for as long as the simulation runs."""
        while True:
            await asyncio.sleep(worker.itl_s)
            if worker.worker_id in self._up and not worker.hung:
                if worker.under_way:
                    worker.step()
                self._table.report(worker.worker_id, worker.load())
                self._watchers.report(worker.worker_id, worker.load())


class World:
    """Everything that a router is made of but its sockets."""

    def __init__(
        self, workers: list[SimWorker], queue: QueueSettings, failover: FailoverSettings, seed: int, policy: str
    ) -> None:
        loop = asyncio.get_running_loop()
        self.now = loop.time
        self.settings = RouterSettings(queue=queue, failover=failover, retriever="")
        self.table = WorkerTable(64, worker_queue_limit=queue.in_worker)
        self.monitor = Monitor(
            self.table,
            PulseLimits(failover.silent_s, failover.stall_s, failover.probe_s),
            BreakerLimits(failover.breaker_failures, failover.breaker_open_s, failover.breaker_longest_s),
            self.now,
        )
        self.room = WaitingRoom(QueueLimits(queue.requests, queue.tokens, queue.wait_s), self.now)
        self.watchers = Watchers(self.table, self.monitor, self.room)
        self.fleet = SimFleet(workers, self.table, self.watchers, self.now)
        metrics = RouterMetrics(CollectorRegistry(), self.table)
        placer = Placer(self.table, policy, Weights(), random.Random(seed))
        placing = Placing(self.table, placer, self.monitor, self.room, self.settings, metrics, self.now)
        self.dispatch = Dispatch(
            self.table,
            placing,
            Seating(placing, self.room, self.settings, self.now),
            LinkRelay(self.fleet, self.now, tick_s=2.0, buffer_bytes=1 << 20),  # type: ignore[arg-type] # see SimWorker
            Sourcing(RetrieverLink("", _no_grpc()), placing, self.settings, self.now),
            self.room,
            RetryBudget(failover.retry_share, failover.retry_per_s, failover.retry_window_s),
            RetryBudget(failover.hedge_share, failover.hedge_per_s, failover.retry_window_s),
            self.settings,
            metrics,
            self.now,
        )
        self._tasks = [asyncio.ensure_future(self.watchers.run(failover.check_every_s))]
        for worker in workers:
            self.fleet.up(worker, fresh=True)
            self._tasks.append(asyncio.ensure_future(self.fleet.run(worker)))

    async def close(self) -> None:
        """Stops the clockwork."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def answer(self, name: str, client: "Reader") -> Answer:
        """A new request's answer."""
        return Answer(name, client, self.now)


def _broken() -> Failure:
    return Failure(FailureKind.BROKEN, "the engine broke", "ENGINE_BROKEN")


def _no_grpc() -> object:
    """RetrieverLink takes settings for a channel that it does not open where there is no address."""
    return None


class Reader:
    """A client that checks every token as it comes: the next index, and the right token for the prompt."""

    pushes = True

    def __init__(self, chat: Chat, now: Callable[[], float]) -> None:
        self.prompt = chat.messages[-1].content
        self._now = now
        self._pushes = 0
        self.tokens_seen = 0
        self.events: list[object] = []
        self.last_s = now()
        self.longest_gap_s = 0.0

    def push(self, text: str, index: int, ids: Sequence[int], logprobs: Sequence[TokenLogprob]) -> bool:
        """See answer.Client. It has room two times in three, so that tokens take both ways to it."""
        self._pushes += 1
        if self._pushes % 3 == 0:
            return False
        self._take(text, index, ids)
        return True

    async def tokens(self, text: str, index: int, ids: list[int], logprobs: list[TokenLogprob]) -> None:
        """See answer.Client."""
        self._take(text, index, ids)

    def check(self, text: str, index: int, ids: Sequence[int]) -> None:
        """Whether these are the tokens that are due here."""
        assert ids == [token(self.prompt, index + i) for i in range(len(ids))], "a wrong token"

    def _take(self, text: str, index: int, ids: Sequence[int]) -> None:
        assert index == self.tokens_seen, f"token {index} came where {self.tokens_seen} was due"
        self.check(text, index, ids)
        self.tokens_seen += len(ids)
        if index:
            self.longest_gap_s = max(self.longest_gap_s, self._now() - self.last_s)
        self.last_s = self._now()

    async def event(self, event: object) -> None:
        """See answer.Client."""
        self.events.append(event)


class TextReader(Reader):
    """A client of workers that know text alone: the text has neither a gap nor a repeat."""

    def __init__(self, chat: Chat, now: Callable[[], float]) -> None:
        super().__init__(chat, now)
        self._rest = prose(self.prompt)

    def check(self, text: str, index: int, ids: Sequence[int]) -> None:
        """See Reader."""
        assert not any(ids)
        assert self._rest.startswith(text), f"{text!r} came where {self._rest[:20]!r} was due"
        self._rest = self._rest[len(text) :]
