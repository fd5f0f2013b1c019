"""A model of a GPU worker in simulated time: continuous batching, chunked prefill, and a KV cache that evicts.

It is pure: no clock, no chance, no I/O. The caller hands in jobs and the time, and reads what happened until then.

    step time = base + per sequence that decodes + prompt tokens of this step / prefill rate

Each step first gives every decoding sequence a token, then spends what is left of its token budget on prompts in the
order of their arrival. Steps without prefill are alike until a sequence ends or a job comes, so they are taken at once.
"""

import math
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Gpu:
    """What a worker can do. The defaults are near an 80 GB GPU that serves a model of 8 billion parameters.

    `speed` divides every time. The cache holds `cache_blocks` blocks of `block_tokens` tokens, those in use included.
    """

    prefill_tokens_per_s: float = 20_000.0
    step_s: float = 0.010
    sequence_s: float = 0.000_25
    step_tokens: int = 4096
    max_running: int = 128
    max_waiting: int = 100_000
    block_tokens: int = 512
    cache_blocks: int = 3000
    speed: float = 1.0

    def request_s(self, prompt_tokens: float, output_tokens: float) -> float:
        """Seconds of the worker that a request takes at full batches."""
        decode_s = output_tokens * (self.step_s / self.max_running + self.sequence_s)
        return (prompt_tokens / self.prefill_tokens_per_s + decode_s) / self.speed


@dataclass(frozen=True, slots=True)
class Job:
    """A request: at least one token of prompt and of answer. `blocks` name the prompt's blocks; equal ones are shared.

    A resumed answer's `prompt_tokens` hold the tokens that it goes on after, and `output_tokens` are those to come.
    """

    key: int
    prompt_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class FirstToken:
    """A job's prompt is prefilled and its first token is out; so many tokens of the prompt were cached."""

    key: int
    at_s: float
    cached_tokens: int


@dataclass(frozen=True, slots=True)
class Finished:
    """A job's last token is out."""

    key: int
    at_s: float


Event = FirstToken | Finished


@dataclass(frozen=True, slots=True)
class Reading:
    """A worker's load, as its reports have it."""

    running: int
    waiting: int
    queued_tokens: int
    kv_usage: float
    step_count: int
    step_time_s: float


class BlockCache:
    """KV blocks: pinned ones are in use, the others are kept until room is needed, and go by least recent use."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._pins: dict[int, int] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()
        self._private = 0
        self.evicted = 0

    def __repr__(self) -> str:
        return f"BlockCache(pinned={len(self._pins)} idle={len(self._idle)} private={self._private})"

    @property
    def in_use(self) -> int:
        """Blocks that cannot be evicted now."""
        return len(self._pins) + self._private

    def __len__(self) -> int:
        return self.in_use + len(self._idle)

    def matched(self, blocks: Sequence[int]) -> int:
        """Blocks that are there without a gap from the first on."""
        for depth, block in enumerate(blocks):
            if block not in self._pins and block not in self._idle:
                return depth
        return len(blocks)

    def take(self, blocks: Sequence[int], private: int) -> bool:
        """Pins the prompt's blocks and so many more of its own; False, and nothing done, where there is no room."""
        new = sum(block not in self._pins for block in blocks)
        if self.in_use + new + private > self.limit:
            return False
        self._private += private
        for block in blocks:
            self._pins[block] = self._pins.get(block, 0) + 1
            self._idle.pop(block, None)
        while len(self) > self.limit:
            self._idle.popitem(last=False)
            self.evicted += 1
        return True

    def give_back(self, blocks: Sequence[int], kept: int, private: int) -> None:
        """Unpins; the first `kept` blocks hold their tokens and stay, the end of the prompt to be evicted first."""
        self._private -= private
        for depth in range(len(blocks) - 1, -1, -1):
            block = blocks[depth]
            left = self._pins[block] - 1
            if left:
                self._pins[block] = left
                continue
            del self._pins[block]
            if depth < kept:
                self._idle[block] = None


@dataclass(slots=True)
class _Run:
    """A job that has its place. `left` prompt tokens are to be prefilled; it ends with step `ends_at`."""

    job: Job
    cached_tokens: int
    left: int
    private: int
    ends_at: int = -1
    first_at: int = -1


@dataclass(slots=True)
class _Plan:
    """Steps under way: `count` alike, each of `each_s`, from `begun_s` on; chunks of prompts are in one step alone."""

    begun_s: float
    each_s: float
    count: int
    chunks: list[tuple[_Run, int]] = field(default_factory=list)

    @property
    def end_s(self) -> float:
        return self.begun_s + self.each_s * self.count


class SimWorker:
    """One worker. Call `advance` with a time that never goes back; `next_s` says when something happens by itself."""

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu
        self.cache = BlockCache(gpu.cache_blocks)
        self._waiting: deque[Job] = deque()
        self._running: dict[int, _Run] = {}
        self._prefilling: dict[int, _Run] = {}
        self._plan: _Plan | None = None
        self._steps = 0
        self._step_time_s = 0.0
        self.busy_s = 0.0
        """Time in which it had work."""

    def __repr__(self) -> str:
        return f"SimWorker(running={len(self._running)} waiting={len(self._waiting)} steps={self._steps})"

    @property
    def next_s(self) -> float:
        """When the steps under way are over; infinite while it is idle."""
        return self._plan.end_s if self._plan else math.inf

    def reading(self) -> Reading:
        """The load as of the last step that is over."""
        queued = sum(job.prompt_tokens for job in self._waiting) + sum(run.left for run in self._prefilling.values())
        usage = self.cache.in_use / max(1, self.cache.limit)
        running, waiting = len(self._running), len(self._waiting)
        return Reading(running, waiting, queued, usage, self._steps, self._step_time_s)

    def submit(self, job: Job, now_s: float) -> bool:
        """Takes a job; False where as many wait as may, or where it could never fit. Advance to `now_s` first."""
        if len(self._waiting) >= self.gpu.max_waiting or self._private(job) + len(job.blocks) > self.cache.limit:
            return False
        self._waiting.append(job)
        self._interrupt(now_s)
        return True

    def produced(self, key: int) -> int:
        """Tokens that the job has brought until now; 0 where it is not running."""
        run = self._running.get(key)
        return 0 if run is None or run.first_at < 0 else self._steps - run.first_at + 1

    def cancel(self, key: int, now_s: float) -> None:
        """Stops a job after the step under way, whatever it does. Advance to `now_s` first."""
        self._waiting = deque(job for job in self._waiting if job.key != key)
        if key in self._running:
            self._drop(self._running[key])
            self._interrupt(now_s)

    def advance(self, now_s: float) -> list[Event]:
        """Everything that happened until `now_s`, in order."""
        events: list[Event] = []
        while self._plan is not None and self._plan.end_s <= now_s:
            plan = self._plan
            self._finish(plan, plan.count, events)
            self._begin(plan.end_s)
        if self._plan is not None and self._plan.count > 1:
            done = int((now_s - self._plan.begun_s) / self._plan.each_s)
            if done:
                plan = self._plan
                self._finish(plan, done, events)
                self._plan = _Plan(plan.begun_s + done * plan.each_s, plan.each_s, plan.count - done)
        return events

    def _interrupt(self, now_s: float) -> None:
        """Lets the next step be a new one: those that are planned beyond the one under way are dropped."""
        if self._plan is None:
            self._begin(now_s)
        elif self._plan.count > 1:
            self._plan.count = 1

    def _begin(self, now_s: float) -> None:
        """Plans the next steps, or none where there is no work."""
        self._admit()
        self._plan = None
        if not self._running:
            return
        gpu = self.gpu
        decoding = len(self._running) - len(self._prefilling)
        budget = max(1, gpu.step_tokens - decoding)
        chunks: list[tuple[_Run, int]] = []
        for run in self._prefilling.values():
            if budget <= 0:
                break
            chunk = min(budget, run.left)
            chunks.append((run, chunk))
            budget -= chunk
        prefill_s = sum(chunk for _, chunk in chunks) / gpu.prefill_tokens_per_s
        each_s = (gpu.step_s + gpu.sequence_s * decoding + prefill_s) / gpu.speed
        count = 1 if chunks else min(run.ends_at for run in self._running.values()) - self._steps
        self._plan = _Plan(now_s, each_s, count, chunks)

    def _finish(self, plan: _Plan, count: int, events: list[Event]) -> None:
        """Books `count` steps of the plan."""
        self._steps += count
        self._step_time_s = plan.each_s
        self.busy_s += count * plan.each_s
        at_s = plan.begun_s + count * plan.each_s
        for run, chunk in plan.chunks:
            run.left -= chunk
            if run.left == 0 and run.job.key in self._running:
                del self._prefilling[run.job.key]
                run.first_at = self._steps
                run.ends_at = self._steps + run.job.output_tokens - 1
                events.append(FirstToken(run.job.key, at_s, run.cached_tokens))
        for run in [run for run in self._running.values() if run.ends_at == self._steps]:
            self._drop(run)
            events.append(Finished(run.job.key, at_s))

    def _admit(self) -> None:
        """Gives places to those that wait, in order, while there is a place to run and room for their tokens."""
        while self._waiting and len(self._running) < self.gpu.max_running:
            job = self._waiting[0]
            matched = self.cache.matched(job.blocks)
            private = self._private(job)
            if not self.cache.take(job.blocks, private):
                return
            self._waiting.popleft()
            # The last token's output is what the first step needs, so it is always computed.
            cached_tokens = min(matched * self.gpu.block_tokens, job.prompt_tokens - 1)
            run = _Run(job, cached_tokens, job.prompt_tokens - cached_tokens, private)
            self._running[job.key] = self._prefilling[job.key] = run

    def _drop(self, run: _Run) -> None:
        """Frees the job's place; the blocks that were prefilled stay in the cache."""
        job = run.job
        del self._running[job.key]
        self._prefilling.pop(job.key, None)
        kept = len(job.blocks) if run.left == 0 else (job.prompt_tokens - run.left) // self.gpu.block_tokens
        self.cache.give_back(job.blocks, kept, run.private)

    def _private(self, job: Job) -> int:
        """Blocks for what has no name: the answer, and a prompt that names no blocks."""
        unnamed = max(0, job.prompt_tokens - len(job.blocks) * self.gpu.block_tokens)
        return math.ceil((unnamed + job.output_tokens) / self.gpu.block_tokens)
