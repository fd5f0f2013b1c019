"""Answers from a model on Triton: a stream for each request, its chunks to steps, and whether Triton can work."""

import asyncio
from collections import deque
from dataclasses import dataclass

import grpc.aio
import structlog

from services.kit.cancellation import heed_cancellation
from services.kit.clock import monotonic_s
from services.kit.errors import Exhausted, Internal, InvalidArgument, Unavailable, WeftError
from services.worker.engines.gather import Gatherer
from services.worker.engines.hold import Hold
from services.worker.engines.limits import check_room
from services.worker.engines.triton.client import StreamError, TritonClient
from services.worker.engines.triton.contract import Contract
from services.worker.engines.triton.failures import from_status, from_text, is_away, is_dead
from services.worker.engines.triton.prompts import Prompts
from services.worker.engines.triton.readings import Reading
from services.worker.engines.triton.wire import Chunk, to_chunk, to_inputs, to_logprobs, to_parameters
from services.worker.ports import About, EngineLoad, Finish, Logprob, Reason, Sink, Tokens, Work
from services.worker.text import TextStage

# Requests wait and nothing comes: after so long a request of one token finds out whether the model lives.
SILENCE_S = 5.0
PROBE_LIMIT_S = 5.0
_PROBE = '{"max_tokens": 1}'


@dataclass(slots=True)
class _Request:
    """One answer under way. `text` is the prompt; `count` and `end` are in tokens of the answer, resumed ones too."""

    work: Work
    stage: TextStage
    text: str
    count: int
    end: int = 0
    prompt_tokens: int = 0
    started: bool = False
    prefilled: bool = False
    task: asyncio.Task[None] | None = None

    def finish(self, reason: Reason) -> Finish:
        return Finish(reason, self.prompt_tokens, 0, self.count)


class TritonEngine:
    """Admits up to `max_running` requests, each a task that reads its own stream; `watch` keeps it informed.

    Triton says of no prompt how much of it was cached, and of no token which it was: token ids are 0 and only count.
    """

    def __init__(
        self,
        about: About,
        contract: Contract,
        client: TritonClient,
        prompts: Prompts,
        structure_key: str,
        sink: Sink,
        *,
        max_waiting: int = 0,
    ) -> None:
        self.about = about
        self._contract = contract
        self._client = client
        self._prompts = prompts
        self._structure_key = structure_key
        self._running: dict[int, _Request] = {}
        self._waiting: deque[_Request] = deque()
        self._gather = Gatherer(sink, self.load, lambda: sum(r.prefilled for r in self._running.values()))
        self._broken = ""
        self._reading: Reading | None = None
        self._others = self._seen_others = 0
        self._heard_s = 0.0
        self._dead = ""
        self._asking = asyncio.Lock()
        self._hold = Hold("Triton", "ENGINE_FULL", about.max_running, max_waiting, monotonic_s)
        self._log = structlog.get_logger("triton")

    def __repr__(self) -> str:
        return f"TritonEngine({self.about.model} running={len(self._running)} waiting={len(self._waiting)})"

    def load(self) -> EngineLoad:
        """Triton's own count of what it runs and holds back goes in, so far as its metrics are read."""
        under_way = len(self._running) + self._others
        held = min(self._reading.waiting, under_way) if self._reading is not None else 0
        running, waiting = self._hold.fill(under_way - held, len(self._waiting) + held)
        return EngineLoad(
            running=running,
            waiting=waiting,
            queued_tokens=sum(r.prompt_tokens for r in self._running.values() if not r.prefilled),
            kv_usage=self._reading.kv_usage if self._reading is not None else 0.0,
            step_count=self._gather.step_count,
            step_time_s=self._gather.step_time_s,
            broken=self._broken,
        )

    def cached(self) -> tuple[int, ...]:
        return ()

    def read(self, reading: Reading | None) -> None:
        """A new reading of Triton's metrics; None where there is none. What is not ours in it are others' requests.

        One that began or ended meanwhile is in one count and not in the other: so the smaller of two readings holds.
        """
        before, self._seen_others = self._seen_others, 0
        if reading is not None and reading.running is not None:
            self._seen_others = max(0, reading.running + reading.waiting - len(self._running))
        self._reading, self._others = reading, min(before, self._seen_others)

    def turned(self, broken: str) -> None:
        """Whether Triton can work now; while it cannot, `broken` says why, and every request ends."""
        if broken == self._broken:
            return
        self._log.warning("broken", why=broken) if broken else self._log.info("works again")
        self._broken = broken
        under_way = [*self._running.values(), *self._waiting] if broken else []
        self._waiting.clear()
        for request in under_way:
            self._running.setdefault(request.work.key, request)
            self._end(request, Unavailable(f"{broken}; ask another worker, or later", reason="ENGINE_BROKEN"))
            if request.task is not None:
                request.task.cancel()
        if not under_way:
            self._gather.flush()

    def submit(self, work: Work) -> None:
        if self._broken:
            raise Unavailable(f"{self._broken}; ask another worker, or later", reason="ENGINE_BROKEN")
        if self._hold.left_s:
            raise self._hold.error()
        if work.adapter and work.adapter not in self.about.adapters:
            message = f"the adapter {work.adapter!r} is none of worker.triton.adapters"
            raise InvalidArgument(message, reason="UNKNOWN_ADAPTER", field="model")
        text = self._prompts.text(work.prompt)
        request = _Request(work, TextStage(work.sampling.stop), text, len(work.resume))
        if len(self._running) < self.about.max_running:
            self._begin(request)
        else:
            self._waiting.append(request)

    def _begin(self, request: _Request) -> None:
        if not self._running:
            self._heard_s = monotonic_s()
        self._running[request.work.key] = request
        request.task = asyncio.create_task(self._run(request))

    def cancel(self, key: int) -> None:
        if (request := self._running.get(key)) is not None and request.task is not None:
            request.task.cancel()
            # A task that has not begun yet would end without a word; and the answer must not wait for its turn.
            self._end(request, request.finish(Reason.CANCELLED))
        elif (waiting := next((r for r in self._waiting if r.work.key == key), None)) is not None:
            self._waiting.remove(waiting)
            self._gather.ended(key, waiting.finish(Reason.CANCELLED))

    def _end(self, request: _Request, outcome: Finish | WeftError, last: Tokens | None = None) -> None:
        """Ends a request once; the first of those that wait takes its place. Where Triton is full they all go too."""
        if isinstance(outcome, Exhausted) and request.work.key in self._running:
            self._hold.refused(outcome)
            waiting, self._waiting = self._waiting, deque()
            for other in waiting:
                self._gather.ended(other.work.key, self._hold.error())
        if self._running.pop(request.work.key, None) is None:
            return
        if self._waiting:
            self._begin(self._waiting.popleft())
        if not self._running:
            self._gather.idle()
        self._gather.ended(request.work.key, outcome, last)

    async def _run(self, request: _Request) -> None:
        """Whatever fails, an error's own handling too, the request ends and leaves its place to another."""
        try:
            await self._answer(request)
        except Exception as caught:
            self._log.error("request failed", exc_info=caught)
            self._end(request, Internal("the engine failed on this request; the worker's log has the details"))

    async def _answer(self, request: _Request) -> None:
        try:
            await self._measure(request)
            if request.count >= request.end:
                # The answer was complete, only its end was lost.
                self._end(request, request.finish(Reason.LENGTH))
            else:
                await self._stream(request)
        except WeftError as error:
            self._end(request, error)
        except StreamError as error:
            if is_dead(str(error)):
                self._died(str(error))
                self.turned(self._dead)
            self._end(request, from_text(str(error), structured=request.work.sampling.structure is not None))
        except grpc.aio.AioRpcError as error:
            heed_cancellation(error)
            if is_away(error):
                await self.ask()
            self._end(request, from_status(error))

    async def _measure(self, request: _Request) -> None:
        """Where the answer has to end at the latest. Without a tokenizer Triton's first chunk says more."""
        work, context = request.work, self.about.context_tokens
        room = context - 1
        if (counted := await self._prompts.count(request.text, context)) is not None:
            sent = await self._prompts.count(request.text + work.resume_text, context) if work.resume_text else counted
            room = check_room(sent or counted, context)
            self._start(request, counted)
        request.end = min(request.count + room, work.sampling.max_tokens or request.count + room)
        if request.count >= request.end:
            self._start(request, request.prompt_tokens)

    def _start(self, request: _Request, prompt_tokens: int) -> None:
        request.prompt_tokens = prompt_tokens
        if not request.started:
            request.started = True
            self._gather.started(request.work.key, prompt_tokens)

    async def _stream(self, request: _Request) -> None:
        """Sends tokens on as they come, to the answer's end."""
        work = request.work
        parameters = to_parameters(
            work.sampling, request.end - request.count, request.count, self._structure_key, work.adapter
        )
        logprobs = work.sampling.logprobs is not None
        inputs = to_inputs(self._contract, request.text + work.resume_text, parameters, logprobs=logprobs)
        async with self._client.stream(self._contract, inputs) as responses:
            async for response in responses:
                self._heard_s = monotonic_s()
                chunk = to_chunk(response)
                if not request.prefilled:
                    self._first(request, chunk)
                if self._take(request, chunk):
                    return
        if self._contract.reasons:
            raise Unavailable("Triton ended the answer without a reason", reason="ENGINE_BROKEN")
        self._take(request, Chunk(b"", None, 0, Reason.STOP, b""))

    def _first(self, request: _Request, chunk: Chunk) -> None:
        """The prompt is through; where nobody could count its tokens before, Triton has now."""
        request.prefilled = True
        if request.started:
            return
        if chunk.prompt_tokens:
            room = check_room(chunk.prompt_tokens, self.about.context_tokens)
            request.end = min(request.end, request.count + room)
        # It counted the resumed text with the prompt.
        self._start(request, max(0, chunk.prompt_tokens - request.count))

    def _take(self, request: _Request, chunk: Chunk) -> bool:
        """Sends a chunk's tokens on; True once the answer has ended."""
        first = request.count
        # A model that does not count is taken to send one token at a time.
        count = chunk.count if chunk.count is not None else int(bool(chunk.text))
        count = min(count, request.end - first)
        request.count += count
        text = request.stage.push(chunk.text)
        reason = self._reason(request, chunk)
        if reason is not None:
            text += request.stage.finish()
        logprobs = self._logprobs(request, chunk, count)
        new = Tokens(request.work.key, first, [0] * count, text, logprobs) if count or text else None
        if reason is not None:
            self._end(request, request.finish(reason), new)
        elif new is not None:
            self._gather.tokens(new)
        return reason is not None

    def _logprobs(self, request: _Request, chunk: Chunk, count: int) -> tuple[Logprob, ...]:
        wanted = request.work.sampling.logprobs
        return to_logprobs(chunk.logprobs, count, wanted) if wanted is not None else ()

    def _reason(self, request: _Request, chunk: Chunk) -> Reason | None:
        if request.stage.stopped:
            return Reason.STOP
        if chunk.reason is not None:
            # A model that gives no reasons ends without one at its limit too.
            full = request.count >= request.end and not self._contract.reasons
            return Reason.LENGTH if full else chunk.reason
        return Reason.LENGTH if request.count >= request.end and not self._contract.counts else None

    async def ask(self) -> None:
        """Asks Triton whether it can work, and takes the answer in. Of many that ask at once one does it for all."""
        if self._asking.locked():
            async with self._asking:
                return
        async with self._asking:
            asked_s = monotonic_s()
            try:
                broken = await self._client.unready(self._contract.model, self._contract.version)
            except TimeoutError as error:
                # A server that is busy answers late, and all the while its streams go on.
                broken = "" if self._heard_s > asked_s else str(error)
            silent = bool(self._running) and asked_s - self._heard_s > SILENCE_S
            # Its model may have died while Triton itself was away or late, and nothing runs then that could tell.
            if not broken and (self._dead or self._broken or silent):
                broken = await self._probe()
            self.turned(broken or self._dead)

    async def _probe(self) -> str:
        """A ready Triton may have lost its model's process: then it leaves streams open for ever, and ends new ones.

        Returns why the model cannot work, empty where it can. A probe without any answer changes nothing: a worker
        that was broken stays so until the next one, and one whose model is merely busy works on.
        """
        inputs = to_inputs(self._contract, "a", _PROBE, logprobs=False)
        try:
            async with asyncio.timeout(PROBE_LIMIT_S), self._client.stream(self._contract, inputs) as responses:
                async for _ in responses:
                    break
            self._dead, self._heard_s = "", monotonic_s()
        except StreamError as error:
            self._dead = ""
            if is_dead(str(error)):
                self._died(str(error))
        except (TimeoutError, grpc.aio.AioRpcError) as error:
            heed_cancellation(error)
            # A busy model answers late, and a Triton that is away is found out otherwise.
            self._heard_s = monotonic_s()
            return self._broken
        return self._dead

    def _died(self, said: str) -> None:
        self._dead = f"Triton's model {self._contract.model} has died: {said}"

    async def close(self) -> None:
        """Stops every request; none of them ends."""
        tasks = [request.task for request in self._running.values() if request.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._gather.close()
