"""Takes requests on or refuses them, and owns what ends them early: cancels, deadlines, lost links and the drain."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import structlog

from services.kit.clock import Now
from services.kit.errors import Exhausted, Internal, InvalidArgument, NotFound, Unavailable, WeftError
from services.worker.board import Board, Route
from services.worker.link import Link
from services.worker.metrics import WorkerMetrics
from services.worker.ports import Engine, Prompt, Sampling, Step, Work
from weft.worker.v1 import worker_pb2 as pb

# Time that an engine has to answer the cancels at the end of a drain.
CANCEL_LIMIT_S = 2.0


@dataclass(frozen=True, slots=True)
class Start:
    """A request as a router asks for it; `timeout_s` None is no limit. See the contract's Start."""

    request: int
    model: str
    prompt: Prompt
    sampling: Sampling
    resume: tuple[int, ...]
    resume_text: str
    timeout_s: float | None


@dataclass(frozen=True, slots=True)
class DeskLimits:
    """See the settings of the same names."""

    max_waiting: int
    link_queue_limit: int
    load_every_s: float


class Desk:
    """Stands between the links and the engine. `run` has to run for as long as links are open."""

    def __init__(self, engine: Engine, board: Board, limits: DeskLimits, metrics: WorkerMetrics, now: Now) -> None:
        self.about = engine.about
        self._engine = engine
        self._board = board
        self._limits = limits
        self._metrics = metrics
        self._now = now
        self._board.turn(engine.load().broken)
        self._keys = itertools.count(1)
        self._links: set[Link] = set()
        self._opened = asyncio.Event()
        self._log = structlog.get_logger("desk")

    def __repr__(self) -> str:
        return f"Desk(links={len(self._links)} {self._board!r})"

    @property
    def draining(self) -> bool:
        """It takes no more requests."""
        return self._board.draining

    @property
    def not_ready(self) -> str:
        """Why it takes no request now, in one sentence; empty where it does."""
        if self.draining:
            return "this worker is draining"
        broken = self._board.broken
        return f"the engine is broken and is being started again: {broken}" if broken else ""

    def open(self, name: str, hello: pb.Hello | None = None) -> Link:
        """A new link, its first message `hello`; without one, a single call. Whoever opens it calls `leave`."""
        link = Link(self._limits.link_queue_limit, name)
        if hello is not None:
            self._greet(link, hello)
        self._links.add(link)
        self._metrics.links.set(len(self._links))
        self._opened.set()
        return link

    def _greet(self, link: Link, hello: pb.Hello) -> None:
        load = self._engine.load()
        self._board.report(link, load, hello)
        if self.about.kv_events:
            # In a message of its own: the first one says who the worker is, and nothing else.
            self._board.report(link, load, cached=self._engine.cached())
            self._board.listen(link)

    def leave(self, link: Link) -> None:
        """Its reader is gone: the engine stops work on all of its requests."""
        self._links.discard(link)
        self._board.forget(link)
        self._metrics.links.set(len(self._links))
        link.close(Unavailable("the link is closed"))
        for key in list(link.requests.values()):
            self._engine.cancel(key)

    def start(self, link: Link, request: int, parse: Callable[[], Start]) -> None:
        """Takes one request on; what is wrong with it, which includes what `parse` raises, becomes its `ended`."""
        try:
            start = parse()
            self._check(link, start)
        except WeftError as error:
            self._board.refuse(link, request, error, self._engine.load())
        else:
            self._submit(link, start)

    def _check(self, link: Link, start: Start) -> None:
        if self.draining:
            raise Unavailable("this worker is stopping; ask another one", reason="DRAINING")
        if broken := self._engine.load().broken:
            message = f"the engine is broken and is being started again: {broken}; ask another worker, or later"
            raise Unavailable(message, reason="ENGINE_BROKEN")
        if start.model not in ("", self.about.model, *self.about.adapters):
            served = ", ".join(repr(name) for name in (self.about.model, *self.about.adapters))
            message = f"{start.model!r} is not served here; this worker has {served}"
            raise NotFound(message, reason="OTHER_MODEL", field="model")
        self._check_engine_can(start)
        if len(self._board) >= self.about.max_running + self._limits.max_waiting:
            raise Exhausted(f"{len(self._board)} requests are running or waiting here; try another worker, or later")

    def _check_engine_can(self, start: Start) -> None:
        about, sampling = self.about, start.sampling
        if sampling.logprobs is not None and not about.logprobs:
            raise _unsupported(f"the {about.engine} engine has no log probabilities", "sampling.logprobs")
        if sampling.structure is not None and not about.structured_output:
            raise _unsupported(f"the {about.engine} engine cannot hold an answer to a form", "sampling.structure")
        if sampling.structure is not None and start.resume and not about.replays_structure:
            message = f"the {about.engine} engine cannot go on within an answer that has a form"
            raise _unsupported(message, "resume_token_ids")
        if start.resume_text and not about.text_only:
            raise _unsupported(f"the {about.engine} engine goes on from token ids alone", "resume_text")
        if start.resume_text and not start.resume:
            message = "resume_text comes with one entry of resume_token_ids for each of its tokens"
            raise InvalidArgument(message, reason="NO_RESUME_IDS", field="resume_token_ids")

    def _submit(self, link: Link, start: Start) -> None:
        key = next(self._keys)
        route = Route(link, start.request, sent=len(start.resume))
        if start.timeout_s is not None:
            route.expiry = asyncio.get_running_loop().call_later(start.timeout_s, self._expire, key)
        self._board.add(key, route)
        try:
            adapter = start.model if start.model != self.about.model else ""
            self._engine.submit(Work(key, start.prompt, start.sampling, start.resume, start.resume_text, adapter))
        except WeftError as error:
            self._board.deliver(Step(self._engine.load(), ended=[(key, error)]))
        except Exception as caught:
            self._log.error("engine failed", exc_info=caught)
            failure = Internal("the engine failed on this request; the worker's log has the details")
            self._board.deliver(Step(self._engine.load(), ended=[(key, failure)]))

    def _expire(self, key: int) -> None:
        if route := self._board.get(key):
            route.expired = True
            self._engine.cancel(key)

    def cancel(self, link: Link, request: int) -> None:
        """The engine stops work on it; its `ended` follows. A request that is over, or never was, is ignored."""
        if (key := link.requests.get(request)) is not None:
            self._engine.cancel(key)

    def drain(self) -> None:
        """Every later start is refused, and every link learns so."""
        if not self.draining:
            self._log.info("draining", requests=len(self._board))
            self._board.draining = True
            self._report(self._links)

    def _report(self, links: set[Link]) -> None:
        load = self._engine.load()
        for link in links:
            self._board.report(link, load)

    async def finish(self, limit_s: float) -> None:
        """Drains: waits `limit_s` for the answers under way, then closes every link and cancels what is left.

        The links go first: a router that loses its link goes on with the answers elsewhere, whereas `ended` would tell
        it that they were cancelled.
        """
        self.drain()
        await self._idle_within(limit_s)
        for link in self._links:
            link.close(Unavailable("this worker is stopping", reason="STOPPING"))
        for key in self._board.under_way():
            self._engine.cancel(key)
        await self._idle_within(CANCEL_LIMIT_S)

    async def _idle_within(self, limit_s: float) -> None:
        """Returns once no request is left, or the time has passed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._board.wait_idle()

    async def follow(self, tell: Callable[[bool], Awaitable[None]]) -> None:
        """Tells whether the engine works, now and whenever that changes, and then every link; it never returns."""
        while True:
            self._board.turned.clear()
            broken = self._board.broken
            await tell(not broken)
            self._report(self._links)
            await self._board.turned.wait()
            if broken != self._board.broken:
                log = self._log.error if self._board.broken else self._log.info
                log("engine broken" if self._board.broken else "engine works again", reason=self._board.broken)

    async def run(self) -> None:
        """Sends each link a reading of the load when it has had none for `load_every_s`."""
        every_s = self._limits.load_every_s
        while True:
            # A link may open and leave before this task gets its turn.
            while not self._links:
                self._opened.clear()
                await self._opened.wait()
            now_s = self._now()
            self._report({link for link in self._links if link.load_put_s + every_s <= now_s})
            due_s = min(link.load_put_s for link in self._links) + every_s
            # A link that was cut takes no more readings and stays due: the floor keeps it from spinning.
            await asyncio.sleep(max(due_s - now_s, every_s / 10))


def _unsupported(message: str, field: str) -> InvalidArgument:
    return InvalidArgument(f"{message}; leave {field} out", reason="UNSUPPORTED", field=field)
