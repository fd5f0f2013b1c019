"""Runs the sim engine's batch on a timer: tokens to steps, and faults on demand."""

import asyncio
import hashlib
import math
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from services.kit.errors import Exhausted, Internal, WeftError
from services.kit.settings.worker import WorkerSettings
from services.worker.engines.limits import check_room
from services.worker.engines.sim.batch import Batch
from services.worker.engines.sim.cache import KvCache
from services.worker.engines.sim.faults import FaultPlan, Faults, Strike, plan_of
from services.worker.engines.sim.prefill import Prefill
from services.worker.engines.sim.request import BLOCK_TOKENS, Request, check_blocks, check_resume, read, token_id
from services.worker.engines.sim.words import GARBAGE, PIECES, WORDS
from services.worker.ports import About, EngineLoad, Finish, Reason, Sink, Started, Step, Tokens, Work
from services.worker.text import TextStage

MAX_RUNNING = 256
CONTEXT_TOKENS = 32_768
# Steps that may be made up for at once when the loop was late; beyond them the schedule starts anew.
CATCH_UP_STEPS = 10
# Between steps that bring no token, in an engine whose steps take no time: they show that it is alive.
IDLE_STEP_S = 0.001
# Share of the newest step in the mean step time.
_NEWEST = 1 / 16


def _end_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class SimEngine:
    """One timer drives all requests: prefill, then `ttft`, then a token in each step.

    Prompts are prefilled one after the other; `ttft` passes for many at once. A step's time is `itl` and a share for
    each request that decodes; prefill and decoding do not slow each other. Places are bounded by their number and by
    the blocks of the KV cache, as `Batch` says.

    The schedule is absolute: a late step is made up for. When an idle engine gets a request, the schedule begins so
    that its first token falls exactly on its time; a request that joins a running batch gets it on the first step after
    that. While prompts are prefilled steps go on, so that a busy engine is never taken for a hung one.
    """

    def __init__(self, settings: WorkerSettings, sink: Sink, die: Callable[[], None] = _end_process) -> None:
        sim = settings.sim
        self._pieces = (sim.token_text,) * len(WORDS) if sim.token_text else PIECES
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
            kv_block_size=BLOCK_TOKENS if sim.kv_blocks else 0,
        )
        self._sim = sim
        self._sink = sink
        self._die = die
        self._loop = asyncio.get_running_loop()
        self._cache = KvCache(sim.kv_blocks)
        self._prefill = Prefill(self._cache, math.inf)
        self._batch = Batch(self._cache, self._prefill, self.about.max_running, 0.0)
        self.faults = Faults(plan_of(sim), settings.worker_id)
        self._set_speed()
        self._timer: asyncio.TimerHandle | None = None
        self._hung = False
        self._unheard: dict[int, None] = {}
        self._due_s = 0.0
        self._stepped_s = 0.0
        self._step_count = 0
        self._step_time_s = self._itl_s
        self._token_count = 0

    def __repr__(self) -> str:
        return f"SimEngine(steps={self._step_count} hung={self._hung} {self._batch!r})"

    @property
    def preemptions(self) -> int:
        """How often a request lost its blocks to another."""
        return self._batch.preemptions

    def _set_speed(self) -> None:
        sim = self._sim
        speed = sim.speed / self.faults.plan.slow_factor
        self._itl_s = sim.itl_ms / 1e3 / speed
        self._itl_per_running_s = sim.itl_us_per_running / 1e6 / speed
        self._batch.ttft_s = sim.ttft_ms / 1e3 / speed
        # 0 stands for infinitely many.
        self._prefill.tokens_per_s = sim.prefill_tokens_per_s * speed or math.inf

    def close(self) -> None:
        """Stops the schedule; requests that are left never end."""
        if self._timer is not None:
            self._timer.cancel()

    def set_faults(self, plan: FaultPlan) -> None:
        """What goes wrong from now on; an engine that hangs wakes up, unless it is to hang at once."""
        self.faults.set(plan, self._token_count)
        self._set_speed()
        struck = self.faults.strike(self._token_count)
        if struck is not None:
            self._struck(struck)
        elif self._hung:
            self._wake()

    def _struck(self, strike: Strike) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if strike is Strike.DIE:
            self._die()
            return
        self._hung = True
        if self.faults.plan.hang_s:
            self._timer = self._loop.call_later(self.faults.plan.hang_s, self._wake)

    def load(self) -> EngineLoad:
        batch = self._batch
        return EngineLoad(
            running=len(batch.running),
            waiting=len(batch.waiting),
            queued_tokens=batch.queued_tokens,
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
        if self.faults.refuses():
            raise Exhausted("this refusal is simulated; worker.sim.refuse_share or SimService asks for it")
        self.faults.doom(request)
        idle = not self._batch.running and not self._hung
        self._batch.add(request, self._loop.time())
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
        end = min(work.sampling.max_tokens or self._sim.max_tokens, room)
        request = Request(work.key, prompt, stage, len(work.resume), end)
        if self._sim.kv_blocks:
            check_blocks(request, self._sim.kv_blocks)
        self._batch.catch_up(self._loop.time())
        request.expect(self._cache.matched(prompt.hashes))
        request.queued_tokens = request.todo_tokens
        return request

    def _over_already(self, request: Request) -> Finish | None:
        """A resumed answer may have been complete: only its end was lost."""
        if request.stage and request.stage.stopped:
            return request.finish(Reason.STOP)
        return request.finish(Reason.LENGTH) if request.index >= request.end else None

    def _begin(self, request: Request) -> None:
        """Starts the schedule so that a step falls on the request's first token, with steps before it."""
        now_s = self._loop.time()
        ready_s = self._batch.first_token_s(request)
        each_s = self._itl_s or IDLE_STEP_S
        before = max(0, int((ready_s - now_s - 1e-9) / each_s))
        self._due_s = ready_s - before * each_s
        self._stepped_s = self._due_s - each_s
        self._timer = self._loop.call_at(self._due_s, self._step)

    def _step(self) -> None:
        now_s = self._loop.time()
        # Half a step of tolerance: sums of floats must not push a token one step later.
        failed = list(self._batch.promote(self._due_s + self._itl_s / 2))
        over = [(request, self._outcome(request, Reason.LENGTH)) for request in failed]
        tokens: list[Tokens] = []
        growing: list[Request] = []
        for request in self._batch.decoding.values():
            reason = self._advance(request, tokens)
            if reason is not None:
                over.append((request, self._outcome(request, reason)))
            elif request.index == request.grows_at:
                growing.append(request)
        for request, _ in over:
            self._batch.drop(request, now_s)
        for request in growing:
            self._batch.grow(request, now_s)
        self._step_count += 1
        self._token_count += len(tokens)
        self._step_time_s += (now_s - self._stepped_s - self._step_time_s) * _NEWEST
        self._stepped_s = now_s
        self._schedule(now_s)
        self._send(tokens=tokens, ended=[(request.key, outcome) for request, outcome in over])

    def _advance(self, request: Request, tokens: list[Tokens]) -> Reason | None:
        """One token for one request; why it ended, where it did."""
        index = request.index
        token = token_id(request.prompt.seed, index)
        request.index = index + 1
        text = self._pieces[token]
        if request.garbled:
            text = GARBAGE[token]
            token += len(WORDS)
        last = index + 1 >= request.end
        stage = request.stage
        if stage is not None:
            text = stage.push(text.encode())
            if last and not request.fails:
                text += stage.finish()
        tokens.append(Tokens(request.key, index, [token], text))
        if stage is not None and stage.stopped:
            return Reason.STOP
        return Reason.LENGTH if last else None

    def _outcome(self, request: Request, reason: Reason) -> Finish | WeftError:
        if request.fails and reason is Reason.LENGTH:
            self.faults.failed += 1
            message = "this failure is simulated; worker.sim.fail_share or SimService asks for it"
            return Internal(message, reason="SIMULATED")
        return request.finish(reason)

    def _schedule(self, now_s: float) -> None:
        """The next step, its time after this one was due; none while nothing runs, or in an engine that hangs."""
        self._timer = None
        struck = self.faults.strike(self._token_count)
        if struck is not None:
            self._struck(struck)
        elif self._batch.running:
            decoding = len(self._batch.decoding)
            each_s = self._itl_s + self._itl_per_running_s * decoding
            self._due_s += each_s or (0.0 if decoding else IDLE_STEP_S)
            if now_s - self._due_s > CATCH_UP_STEPS * each_s:
                self._due_s = now_s
            self._timer = self._loop.call_at(self._due_s, self._step)

    def _wake(self) -> None:
        """Goes on after a hang, with what was asked in the meantime."""
        if self._timer is not None:
            self._timer.cancel()
        self._hung, self._timer = False, None
        self._due_s = self._stepped_s = self._loop.time()
        if self._batch.running:
            self._timer = self._loop.call_at(self._due_s, self._step)
        unheard, self._unheard = self._unheard, {}
        for key in unheard:
            self.cancel(key)

    def cancel(self, key: int) -> None:
        request = self._batch.get(key)
        if request is None:
            return
        if self._hung:
            self._unheard[key] = None
            return
        now_s = self._loop.time()
        self._batch.catch_up(now_s)
        self._batch.drop(request, now_s)
        if not self._batch.running and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._send(ended=[(key, request.finish(Reason.CANCELLED))])


@asynccontextmanager
async def open_sim(settings: WorkerSettings, sink: Sink) -> AsyncIterator[SimEngine]:
    """The engine, until the block ends."""
    engine = SimEngine(settings, sink)
    try:
        yield engine
    finally:
        engine.close()
