"""Generates with an OpenAI-compatible server: a stream for each request, and one step for what all of them bring."""

import asyncio
import contextlib
from collections import deque

import structlog

from services.kit.errors import Exhausted, Internal, InvalidArgument, Unavailable, WeftError
from services.worker.engines.gather import Gatherer
from services.worker.engines.hold import Hold
from services.worker.engines.http import HttpClient
from services.worker.engines.openai.refusal import to_stream_error
from services.worker.engines.openai.request import Request
from services.worker.engines.openai.route import Route
from services.worker.engines.openai.watch import Reading
from services.worker.engines.openai.wire import Chunk, to_chunk
from services.worker.ports import About, EngineLoad, Finish, Reason, Sink, Tokenised, Tokens, Work


class OpenAIEngine:
    """Admits up to `max_running` requests, each a task that reads its own stream. Whoever opens it calls `close`.

    An upstream that says it is full is left alone for a while, see Hold; `max_waiting` is the worker's.
    """

    def __init__(
        self,
        about: About,
        client: HttpClient,
        route: Route,
        silence_limit_s: float,
        sink: Sink,
        *,
        max_waiting: int = 0,
    ) -> None:
        self.about = about
        self._client = client
        self._route = route
        self._silence_limit_s = silence_limit_s
        self._running: dict[int, Request] = {}
        self._waiting: deque[Request] = deque()
        self._generating = 0
        self._gather = Gatherer(sink, self.load, lambda: self._generating)
        self._reading = Reading()
        self._others_running = 0
        self._others_waiting = 0
        self._broken = ""
        self._loop = asyncio.get_running_loop()
        self._hold = Hold("the upstream", "UPSTREAM_FULL", about.max_running, max_waiting, self._loop.time)
        self._log = structlog.get_logger("openai")

    def __repr__(self) -> str:
        return f"OpenAIEngine({self.about.model} running={len(self._running)} waiting={len(self._waiting)})"

    def load(self) -> EngineLoad:
        """Own requests, and those that others had at the same server when it told its load last."""
        held = min(self._reading.waiting, len(self._running) - self._generating)
        running = len(self._running) - held + self._others_running
        waiting = len(self._waiting) + held + self._others_waiting
        running, waiting = self._hold.fill(running, waiting)
        return EngineLoad(
            running=running,
            waiting=waiting,
            queued_tokens=sum(r.call.prompt_tokens for r in self._running.values() if r.call and not r.generating),
            kv_usage=self._reading.kv_usage,
            step_count=self._gather.step_count,
            step_time_s=self._gather.step_time_s,
            broken=self._broken,
        )

    def cached(self) -> tuple[int, ...]:
        return ()

    def submit(self, work: Work) -> None:
        if self._broken:
            raise Unavailable(self._broken, reason="ENGINE_BROKEN")
        if self._hold.left_s:
            raise self._hold.error()
        request = Request.of(work)
        if len(self._running) < self.about.max_running:
            self._begin(request)
        else:
            self._waiting.append(request)

    def _full(self, refusal: Exhausted) -> None:
        """Asking it again at once would not help the upstream. Who waits here may find room elsewhere."""
        self._hold.refused(refusal)
        waiting, self._waiting = self._waiting, deque()
        for request in waiting:
            self._gather.ended(request.work.key, self._hold.error())

    def _begin(self, request: Request) -> None:
        request.begun_s = self._loop.time()
        self._running[request.work.key] = request
        request.task = asyncio.create_task(self._run(request))

    def cancel(self, key: int) -> None:
        if (request := self._running.get(key)) is not None:
            self._drop(request)
            self._end(request, request.finish(Reason.CANCELLED))
        elif (waiting := next((r for r in self._waiting if r.work.key == key), None)) is not None:
            self._waiting.remove(waiting)
            self._gather.ended(key, waiting.finish(Reason.CANCELLED))

    def _drop(self, request: Request) -> None:
        """Ends its task, which closes the stream: that is how the upstream learns of it."""
        if request.task is not None:
            request.task.cancel()

    def _end(self, request: Request, outcome: Finish | WeftError, last: Tokens | None = None) -> None:
        """Ends a request once; the first of those that wait takes its place."""
        if self._running.pop(request.work.key, None) is None:
            return
        self._generating -= request.generating
        if self._waiting and not self._broken:
            self._begin(self._waiting.popleft())
        if not self._running:
            self._gather.idle()
        self._gather.ended(request.work.key, outcome, last)

    async def _run(self, request: Request) -> None:
        try:
            request.begin(await self._route.call(request.work))
            if (reason := request.over) is not None:
                self._gather.started(request.work.key, request.call.prompt_tokens if request.call else 0)
                self._end(request, request.finish(reason))
            else:
                await self._stream(request)
        except InvalidArgument as error:
            if error.reason == "ENGINE_REFUSED" and error.field == "prompt":
                error.field = _blamed(request.work, error.message)
            self._end(request, error)
        except Exhausted as error:
            self._full(error)
            self._end(request, error)
        except WeftError as error:
            self._end(request, error)
        except Exception as caught:
            self._log.error("request failed", exc_info=caught)
            self._end(request, Internal("the engine failed on this request; the worker's log has the details"))

    async def _stream(self, request: Request) -> None:
        """Sends tokens on as they come, until the answer ends."""
        call, key = request.call, request.work.key
        if call is None:
            raise RuntimeError("a request without a call was begun")
        alternatives, mends = request.work.sampling.logprobs, call.mends
        # Servers that tell of prefill tell the prompt's length with it, before the first token.
        started = not call.body.get("return_progress")
        async with self._client.stream(call.path, call.body) as response:
            request.response = response
            if started:
                self._gather.started(key, call.prompt_tokens)
            async with contextlib.aclosing(response.events()) as events:
                async for event in events:
                    if "error" in event and (error := to_stream_error(event)) is not None:
                        raise error
                    chunk = to_chunk(event, alternatives)
                    if not started:
                        started = True
                        self._gather.started(key, chunk.prompt_tokens)
                    if chunk.prompt_tokens:
                        self._gather.progressed()
                    if chunk.logprobs:
                        chunk = chunk._replace(logprobs=await self._route.spell(request.work, chunk.logprobs))
                    if mends and chunk.ids:
                        chunk, mends = await self._mend(request, chunk)
                    if (tokens := request.take(chunk)) is None:
                        continue
                    if not request.generating:
                        request.generating = True
                        self._generating += 1
                    if request.over is Reason.STOP:
                        self._end(request, request.finish(Reason.STOP), tokens)
                        return
                    self._gather.tokens(tokens)
        reason = request.reason()
        rest = await self._route.rest_of(request.work, request.tail) if request.tail else ""
        last = request.last(rest)
        self._end(request, request.finish(request.over or reason), last)

    async def _mend(self, request: Request, chunk: Chunk) -> tuple[Chunk, bool]:
        """The text of the first chunks after tokens that ended in the middle of a character.

        vLLM's own would begin with the whole prompt again. Until a character is complete there is none.
        """
        work, call = request.work, request.call
        if not chunk.text or call is None:
            return chunk, True
        begun = work.resume[: len(work.resume) - len(call.unshown)]
        ids = [*begun, *request.tail, *(chunk.ids or [])]
        if chunk.finish == "stop":
            ids = ids[:-1]
        text = await self._route.text_of(work, ids)
        return chunk._replace(text=text[len(call.shown) :]), False

    def read(self, reading: Reading) -> None:
        """The upstream is well, and says this of its load. Streams that are silent for too long are broken."""
        if self._broken:
            self._log.info("upstream is back")
            self._broken = ""
        if reading.moved or self._hold.left_s:
            # One that is full and says so is not hung.
            self._gather.step_count += 1
        self._reading = reading
        own_waiting = len(self._running) - self._generating
        self._others_running = max(0, reading.running - len(self._running))
        self._others_waiting = max(0, reading.waiting - own_waiting)
        if self._waiting and not self._running:
            self._begin(self._waiting.popleft())
        self._cut_silent()
        self._gather.flush()

    def _cut_silent(self) -> None:
        now_s, limit_s = self._loop.time(), self._silence_limit_s
        for request in list(self._running.values()):
            if now_s - request.heard_s > limit_s:
                self._drop(request)
                message = f"the upstream was silent for {limit_s:g} s; ask another worker"
                self._end(request, Unavailable(message, reason="ENGINE_BROKEN"))

    def broke(self, why: str) -> None:
        """The upstream is away: every request ends, and none may come until it is back."""
        if self._broken:
            return
        self._log.warning("upstream is away", why=why)
        self._broken, self._reading = why, Reading()
        self._others_running = self._others_waiting = 0
        error = Unavailable(why, reason="ENGINE_BROKEN")
        waiting, self._waiting = list(self._waiting), deque()
        for request in list(self._running.values()):
            self._drop(request)
            self._end(request, error)
        for request in waiting:
            self._gather.ended(request.work.key, error)
        self._gather.flush()

    async def close(self) -> None:
        """Closes every stream; no request ends."""
        tasks = [request.task for request in self._running.values() if request.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._gather.close()


def _blamed(work: Work, words: str) -> str:
    """The field that holds what an upstream refused: it saw a prompt with the resumed tokens at its end."""
    if work.resume and str(max(work.resume)) in words:
        return "resume_token_ids"
    return "prompt.token_ids" if isinstance(work.prompt, Tokenised) else "prompt"
