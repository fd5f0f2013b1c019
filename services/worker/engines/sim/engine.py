"""Runs the sim engine's batch on a timer: continuous batching over prefill and prefix cache, tokens to steps."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.kit.errors import Internal, WeftError
from services.kit.settings.worker import WorkerSettings
from services.worker.engines.limits import check_room
from services.worker.engines.sim.cache import PrefixCache
from services.worker.engines.sim.faults import Faults
from services.worker.engines.sim.prefill import Prefill, speed
from services.worker.engines.sim.request import Request, check_resume, read, token_id
from services.worker.engines.sim.words import WORDS
from services.worker.ports import About, EngineLoad, Finish, Reason, Sink, Started, Step, Tokens, Work
from services.worker.prefix import BLOCK_BYTES, TOKEN_BYTES
from services.worker.text import TextStage

MAX_RUNNING = 256
CONTEXT_TOKENS = 32_768
# Steps that may be made up for at once when the loop was late; beyond them the schedule starts anew.
CATCH_UP_STEPS = 10
# Between steps that bring no token, in an engine whose steps take no time: they show that it is alive.
IDLE_STEP_S = 0.001
# Share of the newest step in the mean step time.
_NEWEST = 1 / 16
_PIECES = tuple(f" {word}" for word in WORDS)


class SimEngine:
    """One timer drives all requests: prefill, then `ttft`, then a token in each step.

    Prompts are prefilled one after the other; `ttft` passes for many at once. A step's time is `itl` and a share for
    each request that decodes; prefill and decoding do not slow each other. Places are bounded by their number alone:
    a request for whose blocks the cache has no room runs without keeping them.

    The schedule is absolute: a late step is made up for. When an idle engine gets a request, the schedule begins so
    that its first token falls exactly on its time; a request that joins a running batch gets it on the first step after
    that. While prompts are prefilled steps go on, so that a busy engine is never taken for a hung one.
    """

    def __init__(self, settings: WorkerSettings, sink: Sink) -> None:
        sim = settings.sim
        self._pieces = (sim.token_text,) * len(WORDS) if sim.token_text else _PIECES
        self.about = About(
            engine="sim",
            model=settings.model_name or "sim",
            max_running=settings.max_running or MAX_RUNNING,
            context_tokens=settings.context_tokens or CONTEXT_TOKENS,
            tokenizer_fingerprint="sim-" + hashlib.blake2b("".join(self._pieces).encode(), digest_size=8).hexdigest(),
            exact_resume=True,
            position_keyed_sampling=True,
            replays_penalties=True,
            kv_events=True,
            kv_block_size=BLOCK_BYTES // TOKEN_BYTES if sim.kv_blocks else 0,
        )
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        self._itl_s = sim.itl_ms / 1e3 / sim.speed
        self._itl_per_running_s = sim.itl_us_per_running / 1e6 / sim.speed
        self._ttft_s = sim.ttft_ms / 1e3 / sim.speed
        self._max_tokens = sim.max_tokens
        self._cache = PrefixCache(sim.kv_blocks)
        self._prefill = Prefill(self._cache, speed(sim.prefill_tokens_per_s, sim.speed))
        self._faults = Faults(sim, settings.worker_id)
        self._hang_s = sim.hang_s
        # Every request is in one of the first two; one that runs is in the prefill or in one of the last two.
        self._waiting: dict[int, Request] = {}
        self._running: dict[int, Request] = {}
        self._prefilled: dict[int, Request] = {}
        self._decoding: dict[int, Request] = {}
        self._queued_tokens = 0
        self._timer: asyncio.TimerHandle | None = None
        self._hung = False
        self._unheard: dict[int, None] = {}
        self._due_s = 0.0
        self._stepped_s = 0.0
        self._step_count = 0
        self._step_time_s = self._itl_s
        self._token_count = 0

    def __repr__(self) -> str:
        return f"SimEngine(running={len(self._running)} waiting={len(self._waiting)} steps={self._step_count})"

    def close(self) -> None:
        """Stops the schedule; requests that are left never end."""
        if self._timer is not None:
            self._timer.cancel()

    def load(self) -> EngineLoad:
        return EngineLoad(
            running=len(self._running),
            waiting=len(self._waiting),
            queued_tokens=self._queued_tokens,
            kv_usage=self._cache.usage,
            step_count=self._step_count,
            step_time_s=self._step_time_s,
        )

    def cached(self) -> tuple[int, ...]:
        return self._cache.held()

    def submit(self, work: Work) -> None:
        request = self._request(work)
        if done := self._over_already(request):
            self._send(started=[request.started()], ended=[(work.key, done)])
            return
        self._faults.doom(request)
        self._queued_tokens += request.queued_tokens
        idle = not self._running and not self._hung
        if len(self._running) < self.about.max_running:
            self._admit(request)
        else:
            self._waiting[request.key] = request
        if idle:
            self._begin(request)
        self._send(started=[request.started()])

    def _send(
        self,
        started: list[Started] | None = None,
        tokens: list[Tokens] | None = None,
        ended: list[tuple[int, Finish | WeftError]] | None = None,
    ) -> None:
        self._sink(Step(self.load(), started or [], tokens or [], ended or [], self._cache.take_change()))

    def _request(self, work: Work) -> Request:
        prompt = read(work.prompt, with_hashes=self.about.kv_block_size > 0)
        room = check_room(prompt.tokens, self.about.context_tokens)
        check_resume(prompt.seed, work.resume)
        stage = TextStage(work.sampling.stop) if work.sampling.stop else None
        if stage is not None:
            for token in work.resume:
                stage.push(self._pieces[token].encode())
        end = min(work.sampling.max_tokens or self._max_tokens, room)
        request = Request(work.key, prompt, stage, len(work.resume), end)
        self._catch_up(self._loop.time())
        request.expect(self._cache.matched(prompt.hashes))
        request.queued_tokens = request.todo_tokens
        return request

    def _over_already(self, request: Request) -> Finish | None:
        """A resumed answer may have been complete: only its end was lost."""
        if request.stage and request.stage.stopped:
            return request.finish(Reason.STOP)
        return request.finish(Reason.LENGTH) if request.index >= request.end else None

    def _admit(self, request: Request) -> None:
        now_s = self._loop.time()
        self._catch_up(now_s)
        self._running[request.key] = request
        self._prefill.add(request, now_s)
        self._catch_up(now_s)

    def _catch_up(self, now_s: float) -> None:
        """What the prefill has done until then."""
        for request, done_s in self._prefill.advance(now_s):
            request.ready_s = done_s + self._ttft_s
            self._prefilled[request.key] = request

    def _begin(self, request: Request) -> None:
        """Starts the schedule so that a step falls on the request's first token, with steps before it."""
        now_s = self._loop.time()
        ready_s = request.ready_s or self._prefill.end_s + self._ttft_s
        each_s = self._itl_s or IDLE_STEP_S
        before = max(0, int((ready_s - now_s - 1e-9) / each_s))
        self._due_s = ready_s - before * each_s
        self._stepped_s = self._due_s - each_s
        self._timer = self._loop.call_at(self._due_s, self._step)

    def _step(self) -> None:
        now_s = self._loop.time()
        tokens: list[Tokens] = []
        over: list[tuple[Request, Finish | WeftError]] = []
        # Half a step of tolerance: sums of floats must not push a token one step later.
        self._promote(self._due_s + self._itl_s / 2, over)
        for request in self._decoding.values():
            reason = self._advance(request, tokens)
            if reason is not None:
                over.append((request, _outcome(request, reason)))
        for request, _ in over:
            self._drop(request)
        self._step_count += 1
        self._token_count += len(tokens)
        self._step_time_s += (now_s - self._stepped_s - self._step_time_s) * _NEWEST
        self._stepped_s = now_s
        self._schedule(now_s)
        self._send(tokens=tokens, ended=[(request.key, outcome) for request, outcome in over])

    def _promote(self, ready_s: float, over: list[tuple[Request, Finish | WeftError]]) -> None:
        """Lets those decode whose first token is due, but for one that is to fail before it."""
        self._catch_up(ready_s)
        # They stand in the order of their times.
        due = [request for request in self._prefilled.values() if request.ready_s <= ready_s]
        for request in due:
            del self._prefilled[request.key]
            self._prefill_over(request)
            if request.index < request.end:
                self._decoding[request.key] = request
            else:
                over.append((request, _outcome(request, Reason.LENGTH)))

    def _prefill_over(self, request: Request) -> None:
        self._queued_tokens -= request.queued_tokens
        request.queued_tokens = 0

    def _advance(self, request: Request, tokens: list[Tokens]) -> Reason | None:
        """One token for one request; why it ended, where it did."""
        index = request.index
        token = token_id(request.prompt.seed, index)
        request.index = index + 1
        text = self._pieces[token]
        last = request.index >= request.end
        if request.stage is not None:
            text = request.stage.push(text.encode())
            if last and not request.fails:
                text += request.stage.finish()
        tokens.append(Tokens(request.key, index, [token], text))
        if request.stage is not None and request.stage.stopped:
            return Reason.STOP
        return Reason.LENGTH if last else None

    def _schedule(self, now_s: float) -> None:
        """The next step, its time after this one was due; none while nothing runs, or in an engine that hangs."""
        self._timer = None
        if self._faults.hangs(self._token_count):
            self._hung = True
            if self._hang_s:
                self._timer = self._loop.call_later(self._hang_s, self._wake)
        elif self._running:
            each_s = self._itl_s + self._itl_per_running_s * len(self._decoding)
            self._due_s += each_s or (0.0 if self._decoding else IDLE_STEP_S)
            if now_s - self._due_s > CATCH_UP_STEPS * each_s:
                self._due_s = now_s
            self._timer = self._loop.call_at(self._due_s, self._step)

    def _wake(self) -> None:
        """Goes on after a hang, with what was asked in the meantime."""
        self._hung, self._timer = False, None
        self._due_s = self._stepped_s = self._loop.time()
        if self._running:
            self._timer = self._loop.call_at(self._due_s, self._step)
        unheard, self._unheard = self._unheard, {}
        for key in unheard:
            self.cancel(key)

    def cancel(self, key: int) -> None:
        request = self._running.get(key) or self._waiting.get(key)
        if request is None:
            return
        if self._hung:
            self._unheard[key] = None
            return
        self._catch_up(self._loop.time())
        self._drop(request)
        if not self._running and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._send(ended=[(key, request.finish(Reason.CANCELLED))])

    def _drop(self, request: Request) -> None:
        """Frees its place, which the first of those that wait takes; its blocks stay in the cache."""
        self._prefill_over(request)
        if self._waiting.pop(request.key, None) is not None:
            return
        del self._running[request.key]
        self._prefilled.pop(request.key, None)
        self._decoding.pop(request.key, None)
        self._prefill.remove(request, self._loop.time())
        self._cache.release(request.prompt.hashes[: request.pinned])
        if self._waiting:
            self._admit(self._waiting.pop(next(iter(self._waiting))))


def _outcome(request: Request, reason: Reason) -> Finish | WeftError:
    if request.fails and reason is Reason.LENGTH:
        return Internal("this failure is simulated; worker.sim.fail_share asks for it", reason="SIMULATED")
    return request.finish(reason)


@asynccontextmanager
async def open_sim(settings: WorkerSettings, sink: Sink) -> AsyncIterator[SimEngine]:
    """The engine, until the block ends."""
    engine = SimEngine(settings, sink)
    try:
        yield engine
    finally:
        engine.close()
