"""A model of a GPU worker: continuous batching on a fixed schedule; tokens depend on prompt and place alone."""

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from services.kit.errors import InvalidArgument, WeftError
from services.kit.settings.worker import WorkerSettings
from services.worker.engines.limits import check_room
from services.worker.engines.words import WORDS
from services.worker.ports import (
    About,
    Conversation,
    EngineLoad,
    Finish,
    Prompt,
    Reason,
    Rendered,
    Sink,
    Step,
    Tokens,
    Work,
)
from services.worker.text import TextStage

MAX_RUNNING = 256
CONTEXT_TOKENS = 32_768
# Steps that may be made up for at once when the loop was late; beyond them the schedule starts anew.
CATCH_UP_STEPS = 10
# Share of the newest step in the mean step time.
_NEWEST = 1 / 16
_MASK = (1 << 64) - 1
_PIECES = tuple(f" {word}" for word in WORDS)


@dataclass(slots=True)
class _Request:
    key: int
    seed: int
    prompt_tokens: int
    end: int
    stage: TextStage | None
    index: int
    ready_s: float = 0.0


def token_id(seed: int, index: int) -> int:
    """The answer's token at `index`, for the prompt with this hash: SplitMix64's finaliser over the two."""
    mixed = (seed + (index + 1) * 0x9E3779B97F4A7C15) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    return (mixed >> 31) % len(WORDS)


def prompt_hash(prompt: Prompt) -> tuple[int, int]:
    """The prompt's hash, and how many tokens it takes: one a word, and two a turn for the template."""
    if isinstance(prompt, Conversation):
        turns = [f"{turn.role.value}\n{turn.content}\n" for turn in prompt.messages]
        data, count = "".join(turns).encode(), sum(len(turn.split()) + 1 for turn in turns)
    elif isinstance(prompt, Rendered):
        data, count = prompt.text.encode(), max(1, len(prompt.text.split()))
    else:
        data, count = repr(prompt.ids).encode(), len(prompt.ids)
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big"), count


class SimEngine:
    """One timer drives all requests; a step costs the same whatever waits behind the batch.

    Each step, `itl` after the one before, brings a token to every request whose prefill is done. The schedule is
    absolute: a late step is made up for. When an idle engine gets a request, the schedule begins so that its first
    token falls exactly `ttft` later; a request that joins a running batch gets its own on the first step after that.
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
        )
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        self._itl_s = sim.itl_ms / 1e3 / sim.speed
        self._ttft_s = sim.ttft_ms / 1e3 / sim.speed
        self._max_tokens = sim.max_tokens
        self._running: dict[int, _Request] = {}
        self._waiting: deque[_Request] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = 0.0
        self._stepped_s = 0.0
        self._step_count = 0
        self._step_time_s = self._itl_s

    def __repr__(self) -> str:
        return f"SimEngine(running={len(self._running)} waiting={len(self._waiting)} steps={self._step_count})"

    def close(self) -> None:
        """Stops the schedule; requests that are left never end."""
        if self._timer is not None:
            self._timer.cancel()

    def load(self) -> EngineLoad:
        queued = sum(request.prompt_tokens for request in self._waiting)
        if self._running:
            now_s = self._due_s
            queued += sum(r.prompt_tokens for r in self._running.values() if r.ready_s > now_s)
        return EngineLoad(
            running=len(self._running),
            waiting=len(self._waiting),
            queued_tokens=queued,
            step_count=self._step_count,
            step_time_s=self._step_time_s,
        )

    def submit(self, work: Work) -> None:
        request = self._request(work)
        if done := self._over_already(request):
            self._sink(Step(self.load(), started=[(work.key, request.prompt_tokens)], ended=[(work.key, done)]))
            return
        idle = not self._running
        if len(self._running) < self.about.max_running:
            self._admit(request, self._loop.time())
        else:
            self._waiting.append(request)
        if idle:
            self._begin(request.ready_s)
        self._sink(Step(self.load(), started=[(work.key, request.prompt_tokens)]))

    def _request(self, work: Work) -> _Request:
        seed, prompt_tokens = prompt_hash(work.prompt)
        room = check_room(prompt_tokens, self.about.context_tokens)
        stage = TextStage(work.sampling.stop) if work.sampling.stop else None
        for index, got in enumerate(work.resume):
            if got != token_id(seed, index):
                message = f"resumed token {index} is {got}, which is not what this prompt gives"
                raise InvalidArgument(message, reason="RESUME_MISMATCH", field="resume_token_ids")
            if stage:
                stage.push(self._pieces[got].encode())
        end = min(work.sampling.max_tokens or self._max_tokens, room)
        return _Request(work.key, seed, prompt_tokens, end, stage, len(work.resume))

    def _over_already(self, request: _Request) -> Finish | None:
        """A resumed answer may have been complete: only its end was lost."""
        if request.stage and request.stage.stopped:
            return _finish(request, Reason.STOP)
        return _finish(request, Reason.LENGTH) if request.index >= request.end else None

    def _admit(self, request: _Request, now_s: float) -> None:
        request.ready_s = now_s + self._ttft_s
        self._running[request.key] = request

    def _begin(self, ready_s: float) -> None:
        """Starts the schedule so that a step falls on `ready_s`, with steps during the prefill before it."""
        before = max(0, int((self._ttft_s - 1e-9) / self._itl_s)) if self._itl_s else 0
        self._due_s = ready_s - before * self._itl_s
        self._stepped_s = self._due_s - self._itl_s
        self._timer = self._loop.call_at(self._due_s, self._step)

    def _step(self) -> None:
        now_s = self._loop.time()
        tokens: list[Tokens] = []
        over: list[_Request] = []
        ended: list[tuple[int, Finish | WeftError]] = []
        # Half a step of tolerance: sums of floats must not push a token one step later.
        ready_s = self._due_s + self._itl_s / 2
        for request in self._running.values():
            if request.ready_s <= ready_s:
                reason = self._advance(request, tokens)
                if reason is not None:
                    over.append(request)
                    ended.append((request.key, _finish(request, reason)))
        for request in over:
            self._drop(request)
        self._step_count += 1
        self._step_time_s += (now_s - self._stepped_s - self._step_time_s) * _NEWEST
        self._stepped_s = now_s
        self._schedule(now_s)
        self._sink(Step(self.load(), tokens=tokens, ended=ended))

    def _advance(self, request: _Request, tokens: list[Tokens]) -> Reason | None:
        """One token for one request; why it ended, where it did."""
        index = request.index
        token = token_id(request.seed, index)
        request.index = index + 1
        text = self._pieces[token]
        last = request.index >= request.end
        if request.stage is not None:
            text = request.stage.push(text.encode())
            if last:
                text += request.stage.finish()
        tokens.append(Tokens(request.key, index, [token], text))
        if request.stage is not None and request.stage.stopped:
            return Reason.STOP
        return Reason.LENGTH if last else None

    def _schedule(self, now_s: float) -> None:
        """The next step, `itl` after this one was due; none while nothing runs."""
        self._timer = None
        if not self._running:
            return
        self._due_s += self._itl_s
        if now_s - self._due_s > CATCH_UP_STEPS * self._itl_s:
            self._due_s = now_s
        self._timer = self._loop.call_at(self._due_s, self._step)

    def cancel(self, key: int) -> None:
        request = self._running.get(key) or next((r for r in self._waiting if r.key == key), None)
        if request is None:
            return
        self._drop(request)
        if not self._running and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._sink(Step(self.load(), ended=[(key, _finish(request, Reason.CANCELLED))]))

    def _drop(self, request: _Request) -> None:
        """Frees its place, which the first of those that wait takes."""
        if self._running.pop(request.key, None) is None:
            self._waiting.remove(request)
        elif self._waiting:
            self._admit(self._waiting.popleft(), self._loop.time())


def _finish(request: _Request, reason: Reason) -> Finish:
    return Finish(reason, request.prompt_tokens, 0, request.index)


@asynccontextmanager
async def open_sim(settings: WorkerSettings, sink: Sink) -> AsyncIterator[SimEngine]:
    """The engine, until the block ends."""
    engine = SimEngine(settings, sink)
    try:
        yield engine
    finally:
        engine.close()
