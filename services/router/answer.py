"""One answer on its way to its client: what was sent, and what has to be said before the next token."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from services.kit.clock import Now
from services.router.case import Placed
from services.router.core.chat import FinishReason, Usage
from services.router.core.grounding import Given, Grounding
from services.router.core.recover import Ended
from services.router.events import Accepted, Event, Failed, Finished, Moved, PassagesFound, Progress, Stage, Timing
from services.router.flow import Flow
from weft.chat.v1.chat_pb2 import TokenLogprob
from weft.retriever.v1.retriever_pb2 import Passage


class Client(Protocol):
    """Who gets an answer: a gRPC stream, a turn of a conversation, an OpenAI client."""

    async def tokens(self, text: str, index: int, ids: list[int], logprobs: list[TokenLogprob]) -> None:
        """New tokens; returns when the transport took them, so a slow client holds its own answer alone."""
        ...

    @property
    def pushes(self) -> bool:
        """Whether `push` is worth trying."""
        ...

    def push(self, text: str, index: int, ids: Sequence[int], logprobs: Sequence[TokenLogprob]) -> bool:
        """New tokens where they can be sent without waiting; False where not, and then nothing was taken."""
        ...

    async def event(self, event: Event) -> None:
        """Anything else."""
        ...


class PlacedListener(Protocol):
    """Who keeps account of what is placed where."""

    def started(self, placed: Placed, prompt_tokens: int, cached_tokens: int) -> None:
        """The worker took the request."""
        ...

    def first_token(self, placed: Placed) -> None:
        """The first token came from the worker."""
        ...


class Answer:
    """The state of one request that outlives a worker. Times are on the clock that is handed in, in seconds."""

    def __init__(self, request_id: str, client: Client, now: Now) -> None:
        self.request_id = request_id
        self.client = client
        self.now = now
        self.arrived_s = now()
        self.token_ids: list[int] = []
        """Every token that the client has; the next index is their number."""
        self.text: list[str] | None = None
        """The text that the client has, where somebody needs it: see `keep_text`."""
        self.prompt_tokens = 0
        self.first_token_s: float | None = None
        self.retrieval_s: float | None = None
        self.attempts = 0
        self.accepted = False
        self.cancelled = False
        self.given: tuple[Given, ...] | None = None
        """The passages that its prompt holds; None where no retrieval was asked for."""
        self.grounding: Grounding | None = None
        """How well it rests on them, once that is known."""
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once the client cancelled, for whoever waits on the answer's behalf."""
        self._flow: Flow | None = None
        self.on: Placed
        """Where it is: whose reservation has to be released."""
        self._listener: PlacedListener
        self._is_first = True
        self.model = ""
        """The model's full name, once it is known to exist."""
        self._worker_id = ""
        self._pick_reason = ""
        self._left: tuple[str, str] | None = None
        self._passages: Sequence[Passage] | None = None

    def __repr__(self) -> str:
        return f"Answer({self.request_id} on {self._worker_id or '-'} tokens={len(self.token_ids)})"

    @property
    def usage(self) -> Usage:
        """What it has taken so far, as the router counts it."""
        return Usage(self.prompt_tokens, 0, len(self.token_ids))

    def found(self, passages: Sequence[Passage]) -> None:
        """Retrieval is done; the passages are sent once the answer is accepted."""
        self._passages = passages
        self.retrieval_s = self.now() - self.arrived_s

    def placed(self, placed: Placed, listener: PlacedListener) -> None:
        """A worker was picked; `listener` is told when it takes the request and when its first token comes."""
        self.attempts += 1
        self.on, self._listener, self._is_first = placed, listener, True
        core = placed.core
        self._worker_id, self._pick_reason = core.worker.worker_id, core.why
        if core.worker.hello is not None and core.worker.hello.text_only:
            # Answers move between such workers alone, so that whoever resumes one has all of its text.
            self.keep_text()

    def rests_on(self, given: tuple[Given, ...]) -> None:
        """The prompt holds these passages, against which the answer's text will be checked."""
        self.given = given
        self.keep_text()

    def keep_text(self) -> None:
        """The text is kept from now on, by those that send with `tokens_kept` and `push_kept`."""
        if self.text is None:
            self.text = []

    def moved_to(self, placed: Placed) -> None:
        """A hedged answer goes on with the second worker that was asked; nothing came from the first."""
        self.placed(placed, self._listener)

    def left(self, worker_id: str, reason: str) -> None:
        """The worker failed after tokens were sent: the next one's takeover is told as `moved`."""
        self._left = (worker_id, reason)

    def attach(self, flow: Flow) -> None:
        """Tokens come through this flow from now on."""
        self._flow = flow
        if self.cancelled:
            self.cancel()

    def cancel(self) -> None:
        """The client cancels: the answer finishes with what it has, reason CANCELLED."""
        self.cancelled = True
        if not self.gone.done():
            self.gone.set_result(None)
        if self._flow is not None:
            self._flow.abandon(Ended(FinishReason.CANCELLED, self.usage))

    async def begin(self, prompt_tokens: int, cached_tokens: int) -> None:
        """The worker took the request: says so, and whatever was waiting to be said after that."""
        self.prompt_tokens = prompt_tokens or self.prompt_tokens
        self._listener.started(self.on, prompt_tokens, cached_tokens)
        await self._accept(self._worker_id)
        if self._left:
            (from_id, reason), self._left = self._left, None
            await self.client.event(Moved(from_id, self._worker_id, reason, len(self.token_ids)))

    async def progress(self, stage: Stage, queue_position: int = 0, expected_wait_s: float | None = None) -> None:
        """Nothing came for a while: tells the client that the request is alive."""
        await self._accept(self._worker_id, queue_position)
        await self.client.event(Progress(stage, queue_position, expected_wait_s))

    async def _accept(self, worker_id: str, queue_position: int = 0) -> None:
        if not self.accepted:
            self.accepted = True
            event = Accepted(self.request_id, worker_id, self.model, self._pick_reason, queue_position)
            await self.client.event(event)
        if self._passages is not None:
            passages, self._passages = self._passages, None
            await self.client.event(PassagesFound(passages))

    async def tokens(self, text: str, ids: list[int], logprobs: list[TokenLogprob]) -> None:
        """Sends tokens and counts them."""
        index = len(self.token_ids)
        self._count(ids)
        await self.client.tokens(text, index, ids, logprobs)

    def push(self, text: str, ids: Sequence[int], logprobs: Sequence[TokenLogprob]) -> bool:
        """The same without waiting; False where the client has no room now, and then nothing was sent or counted."""
        if not self.client.push(text, len(self.token_ids), ids, logprobs):
            return False
        self._count(ids)
        return True

    async def tokens_kept(self, text: str, ids: list[int], logprobs: list[TokenLogprob]) -> None:
        """As `tokens`, for an answer whose text is kept."""
        assert self.text is not None, "keep_text comes first"
        self.text.append(text)
        await self.tokens(text, ids, logprobs)

    def push_kept(self, text: str, ids: Sequence[int], logprobs: Sequence[TokenLogprob]) -> bool:
        """As `push`, for an answer whose text is kept."""
        assert self.text is not None, "keep_text comes first"
        if not self.push(text, ids, logprobs):
            return False
        self.text.append(text)
        return True

    def _count(self, ids: Sequence[int]) -> None:
        if self._is_first:
            self._first()
        self.token_ids += ids

    def _first(self) -> None:
        self._is_first = False
        self._listener.first_token(self.on)
        if self.first_token_s is None:
            self.first_token_s = self.now()

    async def say(self, text: str) -> None:
        """The router's own words in place of a model's: accepted by no worker, and without tokens."""
        await self._accept("")
        await self.client.tokens(text, 0, [], [])

    async def finish(self, ended: Ended) -> None:
        """The last event. Completion tokens are those that the client has, however many workers it took."""
        await self._accept(self._worker_id)
        ttft_s = None if self.first_token_s is None else self.first_token_s - self.arrived_s
        timing = Timing(self.now() - self.arrived_s, ttft_s, self.retrieval_s)
        prompt_tokens = ended.usage.prompt_tokens or self.prompt_tokens
        usage = Usage(prompt_tokens, ended.usage.cached_tokens, len(self.token_ids))
        finished = Finished(ended.reason, usage, timing, self._worker_id, self.attempts, self.grounding)
        await self.client.event(finished)

    async def fail(self, failed: Failed) -> None:
        """The last event of an answer that was accepted and failed."""
        await self.client.event(failed)
