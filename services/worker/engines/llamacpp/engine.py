"""Runs a GGUF model with llama.cpp in this process: prompts to tokens, tokens to steps, and a slot for each request."""

import asyncio
import contextlib
import json
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import structlog

from services.kit.errors import Internal, InvalidArgument, Unavailable, WeftError
from services.worker.engines.gather import Gatherer
from services.worker.engines.grammar import StructureCheck
from services.worker.engines.http import HttpClient
from services.worker.engines.limits import check_room
from services.worker.engines.llamacpp.gguf import GgufHead
from services.worker.engines.llamacpp.spelling import Spelling
from services.worker.engines.llamacpp.wire import (
    Chunk,
    Stop,
    Token,
    completion_body,
    to_chunk,
    to_refusal,
    unknown_logprob,
)
from services.worker.ports import (
    About,
    Conversation,
    EngineLoad,
    Finish,
    Prompt,
    Reason,
    Rendered,
    Sink,
    Tokenised,
    Tokens,
    Work,
)
from services.worker.text import TextStage


@dataclass(slots=True)
class _Request:
    """One answer under way. `prompt` and `ids` together are what llama.cpp has to go on from."""

    work: Work
    stage: TextStage
    ids: list[int]
    held: list[Token] = field(default_factory=list)
    prompt: list[int] = field(default_factory=list)
    cached_tokens: int = 0
    prefilled: bool = False
    end: int = 0
    task: asyncio.Task[None] | None = None

    def finish(self, reason: Reason) -> Finish:
        return Finish(reason, len(self.prompt), self.cached_tokens, len(self.ids))


class LlamaCppEngine:
    """Admits up to `max_running` requests, each a task that reads its own stream of tokens from llama.cpp."""

    def __init__(self, about: About, head: GgufHead, client: HttpClient, sink: Sink) -> None:
        self.about = about
        self._pieces = head.pieces
        self._has_template = head.has_template
        self._client = client
        self._spelling = Spelling(head.pieces)
        self._structures = StructureCheck(client.post, head.trap)
        self._running: dict[int, _Request] = {}
        self._waiting: deque[_Request] = deque()
        self._gather = Gatherer(sink, self.load, lambda: sum(r.prefilled for r in self._running.values()))
        self._log = structlog.get_logger("llamacpp")

    def __repr__(self) -> str:
        return f"LlamaCppEngine({self.about.model} running={len(self._running)} waiting={len(self._waiting)})"

    def load(self) -> EngineLoad:
        held = sum(len(r.prompt) + len(r.ids) for r in self._running.values())
        return EngineLoad(
            running=len(self._running),
            waiting=len(self._waiting),
            queued_tokens=sum(len(r.prompt) for r in self._running.values() if not r.prefilled),
            kv_usage=min(1.0, held / (self.about.max_running * self.about.context_tokens)),
            step_count=self._gather.step_count,
            step_time_s=self._gather.step_time_s,
        )

    def cached(self) -> tuple[int, ...]:
        return ()

    def submit(self, work: Work) -> None:
        if any(token >= len(self._pieces) for token in work.resume):
            message = f"a resumed token is not in the vocabulary of {len(self._pieces)}"
            raise InvalidArgument(message, reason="UNKNOWN_TOKEN", field="resume_token_ids")
        request = _Request(work, TextStage(work.sampling.stop), list(work.resume))
        for token in work.resume:
            request.stage.push(self._pieces[token])
        if len(self._running) < self.about.max_running:
            self._begin(request)
        else:
            self._waiting.append(request)

    def _begin(self, request: _Request) -> None:
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
        """Ends a request once; the first of those that wait takes its place."""
        if self._running.pop(request.work.key, None) is None:
            return
        if self._waiting:
            self._begin(self._waiting.popleft())
        if not self._running:
            self._gather.idle()
        self._gather.ended(request.work.key, outcome, last)

    async def _run(self, request: _Request) -> None:
        try:
            request.prompt = await self._tokenise(request.work.prompt)
            if request.work.sampling.structure is not None:
                await self._structures.check(request.work.sampling.structure)
            room = check_room(len(request.prompt), self.about.context_tokens)
            request.end = min(room, request.work.sampling.max_tokens or room)
            self._gather.started(request.work.key, len(request.prompt))
            await self._generate(request)
        except WeftError as error:
            self._end(request, error)
        except Exception as caught:
            self._log.error("request failed", exc_info=caught)
            self._end(request, Internal("the engine failed on this request; the worker's log has the details"))

    async def _tokenise(self, prompt: Prompt) -> list[int]:
        """The prompt's token ids, the model's own chat template applied."""
        if isinstance(prompt, Tokenised):
            if any(token >= len(self._pieces) for token in prompt.ids):
                message = f"a token of the prompt is not in the vocabulary of {len(self._pieces)}"
                raise InvalidArgument(message, reason="UNKNOWN_TOKEN", field="prompt.token_ids")
            return list(prompt.ids)
        text = prompt.text if isinstance(prompt, Rendered) else await self._render(prompt)
        # Cutting a text takes long that is far too long for any context.
        check_room(len(text.encode()) // self._spelling.longest_bytes, self.about.context_tokens)
        answer = await self._client.post("/tokenize", {"content": text, "add_special": True, "parse_special": True})
        return [int(token) for token in answer["tokens"]]

    async def _render(self, prompt: Conversation) -> str:
        if not self._has_template:
            message = f"{self.about.model} has no chat template; send the prompt as text"
            raise InvalidArgument(message, reason="NO_CHAT_TEMPLATE", field="prompt.conversation")
        messages = [{"role": turn.role.value, "content": turn.content} for turn in prompt.messages]
        answer = await self._client.post("/apply-template", {"messages": messages})
        return str(answer["prompt"])

    async def _generate(self, request: _Request) -> None:
        """Streams until the answer ends. After ids that llama.cpp held back it asks again from the last known one.

        llama.cpp sends nothing for a token that ends in the middle of a character, and only the last id once the
        character is complete. Then nothing of that stretch has been sent on yet, so it is generated again, without
        streaming, where every id is given.
        """
        while not self._over(request):
            lost = await self._stream(request)
            if lost:
                await self._repair(request, lost)

    def _over(self, request: _Request) -> bool:
        """Whether it has ended; a resumed answer may have been complete, only its end was lost."""
        if request.work.key not in self._running:
            return True
        if request.stage.stopped:
            self._end(request, request.finish(Reason.STOP))
        elif len(request.ids) >= request.end:
            self._end(request, request.finish(Reason.LENGTH))
        else:
            return False
        return True

    async def _stream(self, request: _Request) -> int:
        """Sends tokens on as they come; returns how long a stretch is whose ids are not all known, or 0 at the end."""
        begun = len(request.ids)
        body = self._body(request, request.end - begun, stream=True)
        async with (
            self._client.stream("/completion", body) as response,
            contextlib.aclosing(response.events()) as events,
        ):
            async for event in events:
                if "error" in event:
                    raise to_refusal(int(event["error"].get("code", 500)), {}, json.dumps(event).encode())
                chunk = to_chunk(event, request.work.sampling.logprobs)
                if not request.prefilled:
                    # Later calls find this request's own work in the cache.
                    request.cached_tokens = max(request.cached_tokens, min(chunk.cached, len(request.prompt)))
                if chunk.progressed:
                    self._gather.progressed()
                    continue
                request.prefilled = True
                sent = len(request.ids) - begun
                tokens, lost = chunk.tokens, chunk.predicted - sent - len(request.held) - len(chunk.tokens)
                if lost > 0 and request.work.sampling.structure is not None:
                    tokens = self._respell(request, chunk, lost)
                elif lost > 0:
                    request.held = []
                    return chunk.predicted - sent
                if self._take(request, tokens, chunk.stop):
                    return 0
        raise Unavailable("llama.cpp ended the answer without a reason", reason="ENGINE_BROKEN")

    def _respell(self, request: _Request, chunk: Chunk, lost: int) -> list[Token]:
        """Ids for the tokens of a character that llama.cpp gave none for: any that spell it.

        Generating the stretch again would begin its structure anew; and no other worker resumes such an answer.
        """
        known = b"".join(self._pieces[token] for token, _ in chunk.tokens)
        data = chunk.text.encode().removesuffix(known)
        if not data:
            # The character is not complete yet, or never will be: then nobody sees it.
            return chunk.tokens
        ids = self._spelling.spell(data, lost)
        if ids is None:
            raise Unavailable("llama.cpp did not name the tokens of a character", reason="ENGINE_FAILED")
        asked = request.work.sampling.logprobs is not None
        return [(token, unknown_logprob(token) if asked else None) for token in ids] + chunk.tokens

    async def _repair(self, request: _Request, count: int) -> None:
        """Generates a stretch of `count` tokens whose ids the stream did not give."""
        answer = await self._client.post("/completion", self._body(request, count, stream=False))
        chunk = to_chunk(answer, request.work.sampling.logprobs)
        if not chunk.tokens and chunk.stop is not Stop.END_OF_ANSWER:
            raise Unavailable("llama.cpp gave no token", reason="ENGINE_BROKEN")
        self._take(request, chunk.tokens, Stop.GOES_ON if chunk.stop is Stop.LIMIT else chunk.stop)

    def _body(self, request: _Request, count: int, *, stream: bool) -> dict[str, Any]:
        return completion_body(request.work, request.prompt, request.ids, count, self.about.adapters, stream=stream)

    def _take(self, request: _Request, tokens: list[Token], stop: Stop) -> bool:
        """Sends new tokens on; True once the answer has ended.

        A token without text at the end is held until the next event: where that says that the model has ended its
        answer, it was the end mark, which is no part of the answer.
        """
        tokens, request.held = request.held + tokens, []
        mark = bool(tokens) and not self._pieces[tokens[-1][0]]
        if mark and stop is Stop.END_OF_ANSWER:
            tokens = tokens[:-1]
        elif mark and stop is Stop.GOES_ON:
            tokens, request.held = tokens[:-1], tokens[-1:]
        first, text, logprobs = len(request.ids), "", []
        for token, logprob in tokens:
            request.ids.append(token)
            text += request.stage.push(self._pieces[token])
            if logprob is not None:
                logprobs.append(logprob)
            if request.stage.stopped:
                break
        ids = request.ids[first:]
        reason = self._reason(request, stop)
        if reason is not None:
            text += request.stage.finish()
        new = Tokens(request.work.key, first, ids, text, tuple(logprobs)) if ids or text else None
        if reason is not None:
            self._end(request, request.finish(reason), new)
        elif new is not None:
            self._gather.tokens(new)
        return reason is not None

    def _reason(self, request: _Request, stop: Stop) -> Reason | None:
        if request.stage.stopped or stop is Stop.END_OF_ANSWER:
            return Reason.STOP
        full = len(request.ids) >= request.end or stop is Stop.LIMIT
        return Reason.LENGTH if full else None

    async def close(self) -> None:
        """Stops every request; none of them ends."""
        tasks = [request.task for request in self._running.values() if request.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._gather.close()
        self._client.close()
