"""One answer's place on a link: what its worker sent and its client has not taken yet."""

import asyncio
from collections.abc import Callable, Sequence

from services.router.core.recover import Failure, FailureKind, Outcome
from weft.chat.v1.chat_pb2 import TokenLogprob
from weft.worker.v1.worker_pb2 import Delta

Push = Callable[[str, Sequence[int], Sequence[TokenLogprob]], bool]
"""Takes tokens on to the client at once; False where it has no room for them, and then it took nothing."""


class Flow:
    """Filled by the link's reader, emptied by the relay; neither waits for the other.

    While the relay waits with nothing pending, tokens go past it through `pushes_to`, without waking its task.

    What arrives while the client is slow piles up here and leaves as one message. At `limit_bytes` of text, or four
    times as many tokens as that holds at one byte each, the answer ends with SLOW_CLIENT. `logprobs` says whether they
    were asked for; looking for them in every token would cost more than all else that is done here.
    """

    __slots__ = (
        "_bytes",
        "_leave",
        "_limit_bytes",
        "_next_index",
        "_on_first",
        "_push",
        "_waiter",
        "_with_logprobs",
        "cached_tokens",
        "ids",
        "logprobs",
        "outcome",
        "prompt_tokens",
        "texts",
        "ticked",
    )

    def __init__(self, next_index: int, limit_bytes: int, *, logprobs: bool = True) -> None:
        self.texts: list[str] = []
        self.ids: list[int] = []
        self.logprobs: list[TokenLogprob] = []
        self.prompt_tokens: int | None = None
        self.cached_tokens = 0
        self.outcome: Outcome | None = None
        self.ticked = False
        self._next_index = next_index
        self._limit_bytes = limit_bytes
        self._bytes = 0
        self._leave: Callable[[], None] = _nothing
        self._on_first: Callable[[], None] | None = None
        self._with_logprobs = logprobs
        self._push: Push | None = None
        self._waiter: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"Flow(next={self._next_index} pending={len(self.ids)} outcome={self.outcome})"

    def tokens(self, delta: Delta) -> None:
        """The worker sent tokens. A gap in the indexes ends the flow: nothing after it could be put right."""
        if self.outcome is not None:
            return
        ids = delta.token_ids
        if delta.index != self._next_index:
            message = f"the worker sent token {delta.index} where {self._next_index} was due"
            self.abandon(Failure(FailureKind.INTERNAL, message, "INDEX_GAP"))
            return
        if self._on_first is not None and not self._begin(self._on_first):
            return
        self._next_index += len(ids)
        text, logprobs, waiter = delta.text, delta.logprobs if self._with_logprobs else (), self._waiter
        # A waiter that is not done means that nothing is pending, so these tokens are the next.
        if waiter is not None and not waiter.done() and self._push is not None and self._push(text, ids, logprobs):
            return
        self.ids += ids
        self.texts.append(text)
        if logprobs:
            self.logprobs += logprobs
        # A token without text still takes room, so that an answer of empty texts is bounded too; and log probabilities
        # take a hundred times as much as their tokens.
        self._bytes += delta.ByteSize() if logprobs else len(text) + 4 * max(1, len(ids))
        if self._bytes > self._limit_bytes:
            message = f"the client did not read for so long that {self._bytes} bytes were waiting; read faster"
            self.abandon(Failure(FailureKind.SLOW_CLIENT, message, "SLOW_CLIENT"))
            return
        self.wake()

    def _begin(self, on_first: Callable[[], None]) -> bool:
        """Tells the race that the first tokens came; whether this flow goes on."""
        self._on_first = None
        on_first()
        return self.outcome is None

    def started(self, prompt_tokens: int, cached_tokens: int) -> None:
        """The worker took the request, and so many tokens of its prompt were in the worker's cache."""
        self.prompt_tokens, self.cached_tokens = prompt_tokens, cached_tokens
        self.wake()

    def end(self, outcome: Outcome) -> None:
        """The answer is over on this worker; the first outcome stands."""
        if self.outcome is None:
            self.outcome = outcome
            self.wake()

    def abandon(self, outcome: Outcome) -> None:
        """The answer is over because this side wants no more of it: the engine is told at once, whoever is waiting."""
        self.end(outcome)
        self._leave()

    def carried_by(self, leave: Callable[[], None]) -> None:
        """A link carries the answer; `leave` tells its engine to stop, as often as it is called."""
        self._leave = leave

    def races(self, on_first: Callable[[], None]) -> None:
        """`on_first` is called when the first tokens come, before they go anywhere; it may end the flow."""
        self._on_first = on_first

    def pushes_to(self, push: Push) -> None:
        """Tokens may go straight to the client from now on: whatever has to be said before them is said."""
        self._push = push

    def tick(self) -> None:
        """Nothing came for a while."""
        self.ticked = True
        self.wake()

    @property
    def next_index(self) -> int:
        """Index of the next token that the worker will send."""
        return self._next_index

    def take(self) -> tuple[str, list[int], list[TokenLogprob]]:
        """All that is pending, leaving nothing."""
        taken = "".join(self.texts), self.ids, self.logprobs
        self.texts, self.ids, self._bytes = [], [], 0
        if taken[2]:
            self.logprobs = []
        return taken

    async def wait(self) -> None:
        """Returns at the next `wake`; at once where something is pending. One waiter at a time."""
        if self.texts or self.outcome is not None or self.prompt_tokens is not None or self.ticked:
            return
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def wake(self) -> None:
        """Lets the waiter go on."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _nothing() -> None:
    """No link carries the answer yet."""
