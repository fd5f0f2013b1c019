"""Runs requests on vLLM and hands each of its steps on; an engine that dies is started again."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import structlog
from tenacity import AsyncRetrying, RetryCallState, wait_exponential, wait_random

from services.kit.errors import Internal, InvalidArgument, Unavailable, WeftError
from services.worker.engines.limits import check_room
from services.worker.engines.vllm.answer import Answer
from services.worker.engines.vllm.blocks import Blocks
from services.worker.engines.vllm.params import vllm_sampling, vllm_structure
from services.worker.engines.vllm.prompts import Read, Reader
from services.worker.ports import (
    About,
    CacheChange,
    EngineLoad,
    Finish,
    Reason,
    Sink,
    Started,
    Step,
    Tokens,
    Work,
)

if TYPE_CHECKING:
    # Both need packages that come with vLLM.
    from services.worker.engines.vllm.core import Core
    from services.worker.engines.vllm.events import CacheEvents

BROKEN = "vLLM's engine process ended, and is being started again"
RESTART_FIRST_S = 1.0
RESTART_LONGEST_S = 60.0
# Between two steps of an engine that was idle there is no step time.
IDLE_GAP_S = 60.0
# Share of the newest step in the mean step time.
_NEWEST = 1 / 16
# vLLM's numbers for why a request is over; see FinishReason there.
_STOP, _LENGTH, _REPETITION = 0, 1, 4

Launch = Callable[[], Awaitable["Core"]]


class VllmEngine:
    """Each request is prepared by a task of its own; after that one task reads vLLM's steps for all of them.

    vLLM itself decides how many run and how many wait. `run` has to run for as long as the engine is used.
    """

    def __init__(
        self,
        about: About,
        core: "Core",
        launch: Launch,
        reader: Reader,
        adapters: Mapping[str, Any],
        sink: Sink,
    ) -> None:
        self.about = about
        self._core = core
        self._launch = launch
        self._reader = reader
        self._adapters = adapters
        self._sink = sink
        self._defaults = core.defaults()
        self._blocks: Blocks | None = None
        self._events: CacheEvents | None = None
        # Every request is in one of these two.
        self._starting: dict[int, tuple[Work, asyncio.Task[None]]] = {}
        self._answers: dict[str, Answer] = {}
        self._aborts: set[asyncio.Task[None]] = set()
        self._broken = ""
        self._queued_tokens = 0
        self._running = 0
        self._kv_usage = 0.0
        self._step_count = 0
        self._step_time_s = 0.0
        self._stepped_s = 0.0
        self._log = structlog.get_logger("vllm")

    def __repr__(self) -> str:
        return f"VllmEngine({self.about.model} answers={len(self._answers)} broken={bool(self._broken)})"

    def report_cache(self, blocks: Blocks, events: "CacheEvents") -> None:
        """Cache events are read from now on, for this core and those after it."""
        self._blocks, self._events = blocks, events

    def cache_changed(self, change: CacheChange) -> None:
        """Tells of it at once: the step that it belongs to may be long."""
        self._sink(Step(self.load(), cache=change))

    def load(self) -> EngineLoad:
        # vLLM says nothing after an abort, and not yet anything of what it was just given.
        running = min(self._running, len(self._answers))
        requests = len(self._answers) + len(self._starting)
        return EngineLoad(
            running=running,
            waiting=requests - running,
            queued_tokens=self._queued_tokens,
            kv_usage=self._kv_usage if requests else 0.0,
            step_count=self._step_count,
            step_time_s=self._step_time_s,
            broken=self._broken,
        )

    def cached(self) -> tuple[int, ...]:
        return self._blocks.held() if self._blocks is not None else ()

    def submit(self, work: Work) -> None:
        if self._broken:
            raise Unavailable(self._broken, reason="ENGINE_BROKEN")
        if work.key in self._starting or str(work.key) in self._answers:
            raise InvalidArgument(f"request {work.key} is under way already", reason="DUPLICATE", field="request")
        self._reader.check_ids(work.resume, "resume_token_ids", "the resumed answer")
        if work.resume and work.sampling.structure is not None:
            message = "vLLM cannot go on in the middle of a structure: begin the answer anew"
            raise InvalidArgument(message, reason="CANNOT_RESUME", field="resume_token_ids")
        self._starting[work.key] = work, asyncio.create_task(self._begin(work))

    async def _begin(self, work: Work) -> None:
        try:
            read = await self._reader.read(work.prompt, work.adapter)
            room = check_room(len(read.ids), self.about.context_tokens)
            await self._start(work, read, min(room, work.sampling.max_tokens or self._defaults.get("max_tokens", room)))
        except WeftError as error:
            self._give_up(work, error)
        except Exception as caught:
            self._log.error("request failed", exc_info=caught)
            self._give_up(work, Internal("the engine failed on this request; the worker's log has the details"))

    def _give_up(self, work: Work, error: WeftError) -> None:
        """Ends a request that may or may not have reached vLLM; one that was ended meanwhile is left alone."""
        known = self._starting.pop(work.key, None) is not None
        answer = self._answers.pop(str(work.key), None)
        if answer is not None:
            self._forget(answer)
        if known or answer is not None:
            self._sink(Step(self.load(), ended=[(work.key, error)]))

    async def _start(self, work: Work, read: Read, end: int) -> None:
        name, core = str(work.key), self._core
        request = await self._prepare(core, work, read, end)
        answer = Answer(work, len(read.ids), self._piece(core, request), self._spell, _ends(request))
        started = [Started(work.key, len(read.ids))]
        if (reason := _over_already(answer, end)) is not None:
            del self._starting[work.key]
            self._sink(Step(self.load(), started, ended=[(work.key, answer.finish(reason))]))
            return
        if self._blocks is not None and read.prefixes:
            self._blocks.expect(read.ids, read.prefixes, work.adapter)
        del self._starting[work.key]
        self._answers[name] = answer
        self._queued_tokens += answer.prompt_tokens
        self._sink(Step(self.load(), started, cache=self._blocks.take_change() if self._blocks is not None else None))
        await core.add(request)

    async def _prepare(self, core: "Core", work: Work, read: Read, end: int) -> Any:
        """The request as vLLM takes it; raises InvalidArgument where vLLM refuses it."""
        room = max(1, end - len(work.resume))
        values = vllm_sampling(work.sampling, self._defaults, len(work.resume), room)
        structure = vllm_structure(work.sampling.structure)
        ids, adapter = [*read.ids, *work.resume], self._adapters.get(work.adapter)
        try:
            if structure is None:
                return core.prepare(str(work.key), ids, values, None, adapter)
            # A grammar is compiled, which may take long.
            return await asyncio.to_thread(core.prepare, str(work.key), ids, values, structure, adapter)
        except Exception as error:
            # vLLM has no one class for what is wrong with a request.
            field = (
                "sampling.structure" if structure else f"sampling.{getattr(error, 'parameter', '') or ''}".rstrip(".")
            )
            raise InvalidArgument(f"vLLM refuses this request: {error}", reason="REFUSED", field=field) from error

    def _piece(self, core: "Core", request: Any) -> Callable[[int], bytes]:
        if self._reader.pieces is not None:
            return self._reader.pieces.__getitem__
        decode = core.detokenizer(request).decode_next
        return lambda token: decode(token).encode()

    def _spell(self, token: int) -> str:
        return self._reader.spell(token)

    def cancel(self, key: int) -> None:
        if (starting := self._starting.pop(key, None)) is not None:
            work, task = starting
            task.cancel()
            finish = Finish(Reason.CANCELLED, 0, 0, len(work.resume))
            self._sink(Step(self.load(), ended=[(key, finish)]))
        elif (answer := self._answers.pop(str(key), None)) is not None:
            self._forget(answer)
            self._abort([str(key)])
            self._sink(Step(self.load(), ended=[(key, answer.finish(Reason.CANCELLED))]))

    def _forget(self, answer: Answer) -> None:
        if not answer.prefilled:
            self._queued_tokens -= answer.prompt_tokens

    def _abort(self, names: list[str]) -> None:
        self._own(self._core.abort(names))

    def _own(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._aborts.add(task)
        task.add_done_callback(self._aborts.discard)

    async def run(self) -> None:
        """Reads steps, and starts vLLM again when it has died."""
        while True:
            try:
                while True:
                    self._step(await self._core.outputs())
            except Exception as error:
                # Whatever it is: nothing more can be read from this engine.
                self._log.error("engine broke", error=repr(error), requests=len(self._answers))
            self._break()
            await self._restart()

    def _step(self, outputs: Any) -> None:
        """This is the token path: one call for each of vLLM's steps."""
        self._measure(outputs.scheduler_stats)
        tokens: list[Tokens] = []
        ended: list[tuple[int, Finish | WeftError]] = []
        aborts: list[str] = []
        answers = self._answers
        for output in outputs.outputs:
            name = output.request_id
            answer = answers.get(name)
            if answer is None:
                # It was cancelled, and vLLM had not heard of that yet.
                continue
            if not answer.prefilled:
                self._prefilled(answer, output.prefill_stats)
            why = output.finish_reason
            new = answer.take(output.new_token_ids, output.new_logprobs, stopped=why == _STOP, over=why is not None)
            if new is not None:
                tokens.append(new)
            if answer.stage.stopped:
                ended.append((answer.work.key, answer.finish(Reason.STOP)))
                if why is None:
                    aborts.append(name)
            elif why is not None:
                ended.append((answer.work.key, _outcome(answer, why)))
            else:
                continue
            del answers[name]
        if aborts:
            self._abort(aborts)
        if tokens or ended:
            self._sink(Step(self.load(), tokens=tokens, ended=ended))

    def _prefilled(self, answer: Answer, stats: Any) -> None:
        self._forget(answer)
        answer.prefilled = True
        if stats is not None:
            answer.cached_tokens = stats.num_cached_tokens

    def _measure(self, stats: Any) -> None:
        now_s = asyncio.get_running_loop().time()
        if self._stepped_s and now_s - self._stepped_s < IDLE_GAP_S and self._running:
            self._step_time_s += (now_s - self._stepped_s - self._step_time_s) * _NEWEST
        self._stepped_s = now_s
        self._step_count += 1
        if stats is not None:
            self._running = stats.num_running_reqs
            self._kv_usage = stats.kv_cache_usage

    def _break(self) -> None:
        """Ends every request, and says that none can be taken."""
        self._broken, self._running, self._queued_tokens = BROKEN, 0, 0
        keys = [*self._starting, *(answer.work.key for answer in self._answers.values())]
        for _, task in self._starting.values():
            task.cancel()
        self._starting.clear()
        self._answers.clear()
        if self._events is not None:
            self._events.stop()
        cache = self._blocks.take_change() if self._blocks is not None else None
        error = Unavailable("vLLM's engine process ended; ask another worker, or later", reason="ENGINE_BROKEN")
        self._sink(Step(self.load(), ended=[(key, error) for key in keys], cache=cache))

    async def _restart(self) -> None:
        """Tries for as long as it takes: a GPU's memory may be freed late, and a router asks nothing meanwhile."""
        with suppress(Exception):
            await self._core.close()
        wait = wait_exponential(RESTART_FIRST_S, max=RESTART_LONGEST_S) + wait_random(0.0, RESTART_FIRST_S)
        async for attempt in AsyncRetrying(wait=wait, before_sleep=self._failed, reraise=True):
            with attempt:
                if self._events is not None:
                    self._events.start()
                self._core = await self._launch()
        self._broken = ""
        self._log.info("engine works again")
        self._sink(Step(self.load()))

    def _failed(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        self._log.error("engine does not start", attempt=state.attempt_number, error=str(error))

    async def close(self) -> None:
        """Ends the engine's process; requests that are left never end."""
        tasks = [*(task for _, task in self._starting.values()), *self._aborts]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._core.close()


def _ends(request: Any) -> frozenset[int]:
    params = request.sampling_params
    return frozenset(params.all_stop_token_ids) | ({params.eos_token_id} if params.eos_token_id is not None else set())


def _over_already(answer: Answer, end: int) -> Reason | None:
    """A resumed answer may have been complete: only its end was lost."""
    if answer.stage.stopped:
        return Reason.STOP
    return Reason.LENGTH if answer.count >= end else None


def _outcome(answer: Answer, why: int) -> Finish | WeftError:
    if why in (_STOP, _REPETITION):
        return answer.finish(Reason.STOP)
    if why == _LENGTH:
        return answer.finish(Reason.LENGTH)
    if answer.work.sampling.structure is not None:
        message = "vLLM cannot hold an answer to this structure"
        return InvalidArgument(message, reason="REFUSED", field="sampling.structure")
    return Internal("vLLM ended this request with an error; the worker's log has the details")
