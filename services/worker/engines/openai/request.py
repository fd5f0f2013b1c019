"""One answer under way at an upstream: what its chunks add to it, and how it ends. It knows no network."""

import asyncio
from dataclasses import dataclass, field

from services.kit.errors import Unavailable
from services.worker.engines.http import Response
from services.worker.engines.openai.route import Call
from services.worker.engines.openai.wire import Chunk, Usage
from services.worker.ports import Finish, Logprob, Reason, Tokens, Work
from services.worker.text import TextStage

# The words for it of vLLM, llama.cpp, SGLang and TGI; every other word is an end of the model's own.
_LENGTH = "length"
_BROKEN = ("abort", "error")
# Tokens that a server may have counted and not shown, such as a long reasoning's.
UNSHOWN_LIMIT = 1 << 17


@dataclass(slots=True)
class Request:
    """`count` is the answer's tokens so far, resumed ones too; `call` is set once the prompt is known.

    `tail` are the latest ids for which the upstream has shown no text.
    """

    work: Work
    count: int
    stage: TextStage | None = None
    call: Call | None = None
    usage: Usage | None = None
    ending: str = ""
    tail: list[int] = field(default_factory=list)
    generating: bool = False
    begun_s: float = 0.0
    response: Response | None = None
    task: asyncio.Task[None] | None = None

    @classmethod
    def of(cls, work: Work) -> "Request":
        """A new one; text goes straight on where no stop string could hold it back."""
        stage = TextStage(work.sampling.stop) if work.sampling.stop else None
        return cls(work, len(work.resume), stage)

    def begin(self, call: Call) -> None:
        """The prompt is known. What the upstream has shown of the resumed tokens passes the stop strings again."""
        self.call = call
        self.tail = list(call.unshown)
        if self.stage is not None and call.shown:
            self.stage.push(call.shown.encode())

    @property
    def heard_s(self) -> float:
        """When the upstream was heard last, on the loop's clock; before its first byte, when it was asked."""
        return self.begun_s if self.response is None else self.response.heard_s

    @property
    def over(self) -> Reason | None:
        """Why it has ended, where it has: a resumed answer may have been complete, only its end was lost."""
        if self.stage is not None and self.stage.stopped:
            return Reason.STOP
        return Reason.LENGTH if self.call is not None and 0 < self.call.end <= self.count else None

    def take(self, chunk: Chunk) -> Tokens | None:
        """The chunk's new tokens, where it has any."""
        if chunk.usage is not None:
            self.usage = chunk.usage
        if chunk.finish:
            self.ending = chunk.finish
        ids, logprobs = self._ids(chunk), chunk.logprobs
        if not ids and not chunk.text:
            return None
        if chunk.ids is not None:
            self.tail = [] if chunk.text else self.tail + ids
        text = self._pass(chunk.text)
        if len(logprobs) != len(ids):
            logprobs = _fit(logprobs, len(ids))
        tokens = Tokens(self.work.key, self.count, ids, text, logprobs)
        self.count += len(ids)
        return tokens if ids or text else None

    def _ids(self, chunk: Chunk) -> list[int]:
        """Ids as they are, without the mark that ends the model's answer; zeros that count where there are none."""
        if chunk.ids is not None:
            return chunk.ids[:-1] if chunk.finish == "stop" and chunk.ids else chunk.ids
        return [0] * (len(chunk.logprobs) or (1 if chunk.text else 0))

    def _pass(self, text: str) -> str:
        """What the stop strings let through."""
        return text if self.stage is None else self.stage.push(text.encode())

    def last(self, rest: str) -> Tokens | None:
        """What was held back, once no chunk follows, and the tokens that the upstream counted and gave no text for.

        `rest` is the text of the tail.
        """
        text = self._pass(rest) + (self.stage.finish() if self.stage is not None else "")
        uncounted = 0
        if self.usage is not None and self.call is not None and "return_token_ids" not in self.call.body:
            uncounted = max(0, len(self.work.resume) + self.usage.completion_tokens - self.count)
            uncounted = min(uncounted, UNSHOWN_LIMIT)
        if not text and not uncounted:
            return None
        tokens = Tokens(self.work.key, self.count, [0] * uncounted, text)
        self.count += uncounted
        return tokens

    def reason(self) -> Reason:
        """Why the upstream ended it. Raises Unavailable where it did not say, or gave up."""
        if not self.ending:
            raise Unavailable("the upstream broke off in the middle of the answer", reason="ENGINE_BROKEN")
        if self.ending in _BROKEN:
            raise Unavailable("the upstream gave the answer up", reason="ENGINE_BROKEN")
        return Reason.LENGTH if self.ending == _LENGTH else Reason.STOP

    def finish(self, reason: Reason) -> Finish:
        """Its end, as far as counted."""
        prompt_tokens = self.call.prompt_tokens if self.call is not None else 0
        cached = 0
        if self.usage is not None:
            prompt_tokens, cached = prompt_tokens or self.usage.prompt_tokens, self.usage.cached_tokens
        return Finish(reason, prompt_tokens, min(cached, prompt_tokens), self.count)


def _fit(logprobs: tuple[Logprob, ...], count: int) -> tuple[Logprob, ...]:
    """One for each token, or none at all where some are missing."""
    return logprobs[:count] if len(logprobs) >= count else ()
