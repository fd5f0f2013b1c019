"""Serves extracted answers as a stream of words, in steps like any other engine's."""

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from services.kit.errors import InvalidArgument, WeftError
from services.kit.settings.worker import WorkerSettings
from services.worker.engines.limits import check_room
from services.worker.engines.reader.answer import answer, pieces
from services.worker.engines.reader.sources import find_inquiry
from services.worker.ports import (
    About,
    Conversation,
    EngineLoad,
    Finish,
    Reason,
    Rendered,
    Sink,
    Started,
    Step,
    Tokenised,
    Tokens,
    Work,
)
from services.worker.text import TextStage

MAX_RUNNING = 64
CONTEXT_TOKENS = 131_072
# Words a second: 1 / STEP_S * STEP_TOKENS. Fast to read, and slow enough to be seen as a stream.
STEP_S = 0.01
STEP_TOKENS = 2


@dataclass(slots=True)
class _Answer:
    key: int
    prompt_tokens: int
    ids: list[int]
    texts: list[str]
    reason: Reason
    next: int


def token_id(piece: str) -> int:
    """A word's id: 31 bits of its hash, the same in every process."""
    return int.from_bytes(hashlib.blake2b(piece.encode(), digest_size=4).digest(), "big") >> 1


def count_tokens(prompt: Conversation | Rendered) -> int:
    """Words of the prompt, and one for each turn."""
    if isinstance(prompt, Rendered):
        return max(1, len(prompt.text.split()))
    return sum(len(message.content.split()) + 1 for message in prompt.messages)


class ReaderEngine:
    """Extraction runs where the request comes in; it takes milliseconds. Only the streaming is spread over steps."""

    def __init__(self, settings: WorkerSettings, sink: Sink) -> None:
        self.about = About(
            engine="reader",
            model=settings.model_name or "reader",
            max_running=settings.max_running or MAX_RUNNING,
            context_tokens=settings.context_tokens or CONTEXT_TOKENS,
            tokenizer_fingerprint="reader-words-1",
            exact_resume=True,
            position_keyed_sampling=True,
            replays_penalties=True,
        )
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        self._running: dict[int, _Answer] = {}
        self._waiting: deque[_Answer] = deque()
        self._timer: asyncio.Handle | None = None
        self._step_count = 0

    def __repr__(self) -> str:
        return f"ReaderEngine(running={len(self._running)} waiting={len(self._waiting)})"

    def close(self) -> None:
        """Stops the steps; requests that are left never end."""
        if self._timer is not None:
            self._timer.cancel()

    def load(self) -> EngineLoad:
        return EngineLoad(
            running=len(self._running),
            waiting=len(self._waiting),
            queued_tokens=sum(one.prompt_tokens for one in self._waiting),
            step_count=self._step_count,
            step_time_s=STEP_S,
        )

    def cached(self) -> tuple[int, ...]:
        return ()

    def submit(self, work: Work) -> None:
        made = self._make(work)
        started = [Started(work.key, made.prompt_tokens)]
        if made.next >= len(made.ids):
            self._sink(Step(self.load(), started=started, ended=[(work.key, _finish(made, made.reason))]))
            return
        if len(self._running) < self.about.max_running:
            self._running[work.key] = made
        else:
            self._waiting.append(made)
        if self._timer is None:
            self._timer = self._loop.call_soon(self._step)
        self._sink(Step(self.load(), started=started))

    def _make(self, work: Work) -> _Answer:
        if isinstance(work.prompt, Tokenised):
            message = "the reader has no vocabulary to read token ids with; send messages or text"
            raise InvalidArgument(message, reason="UNSUPPORTED", field="prompt.token_ids")
        prompt_tokens = count_tokens(work.prompt)
        room = check_room(prompt_tokens, self.about.context_tokens)
        words = pieces(answer(find_inquiry(work.prompt)))
        limit = min(room, work.sampling.max_tokens or room)
        reason = Reason.LENGTH if len(words) > limit else Reason.STOP
        made = _Answer(work.key, prompt_tokens, [], [], reason, len(work.resume))
        _stage(made, words[:limit], TextStage(work.sampling.stop))
        if tuple(made.ids[: made.next]) != work.resume:
            message = "the resumed tokens are not the beginning of this question's answer"
            raise InvalidArgument(message, reason="RESUME_MISMATCH", field="resume_token_ids")
        return made

    def _step(self) -> None:
        tokens: list[Tokens] = []
        over: list[_Answer] = []
        for one in self._running.values():
            first = one.next
            one.next = min(first + STEP_TOKENS, len(one.ids))
            tokens.append(Tokens(one.key, first, one.ids[first : one.next], "".join(one.texts[first : one.next])))
            if one.next == len(one.ids):
                over.append(one)
        ended: list[tuple[int, Finish | WeftError]] = [(one.key, _finish(one, one.reason)) for one in over]
        for one in over:
            self._drop(one)
        self._step_count += 1
        self._timer = self._loop.call_later(STEP_S, self._step) if self._running else None
        self._sink(Step(self.load(), tokens=tokens, ended=ended))

    def cancel(self, key: int) -> None:
        one = self._running.get(key) or next((one for one in self._waiting if one.key == key), None)
        if one is not None:
            self._drop(one)
            self._sink(Step(self.load(), ended=[(key, _finish(one, Reason.CANCELLED))]))

    def _drop(self, one: _Answer) -> None:
        """Frees its place, which the first of those that wait takes."""
        if self._running.pop(one.key, None) is None:
            self._waiting.remove(one)
        elif self._waiting:
            following = self._waiting.popleft()
            self._running[following.key] = following


def _stage(made: _Answer, words: list[str], stage: TextStage) -> None:
    """Fills in the tokens and the text that each completes, up to a stop string."""
    for word in words:
        made.ids.append(token_id(word))
        made.texts.append(stage.push(word.encode()))
        if stage.stopped:
            made.reason = Reason.STOP
            return
    if made.texts:
        made.texts[-1] += stage.finish()


def _finish(one: _Answer, reason: Reason) -> Finish:
    return Finish(reason, one.prompt_tokens, 0, one.next)


@asynccontextmanager
async def open_reader(settings: WorkerSettings, sink: Sink) -> AsyncIterator[ReaderEngine]:
    """The engine, until the block ends."""
    engine = ReaderEngine(settings, sink)
    try:
        yield engine
    finally:
        engine.close()
