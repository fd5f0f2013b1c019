"""Clients that believe nothing: each checks the order of its events and the indexes of its tokens as they come."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import grpc.aio

from tests.chaos.mesh import LIVE_LIMIT_S
from weft.chat.v1 import chat_pb2
from weft.router.v1 import router_pb2
from weft.router.v1.router_pb2_grpc import RouterServiceStub

BEGUN_TOKENS = 3


@dataclass
class Heard:
    """One answer as its client heard it, checked against the contract of StreamChat event by event."""

    prompt: str
    text: str = ""
    ids: list[int] = field(default_factory=list)
    workers: list[str] = field(default_factory=list)
    """Who had it, in order; not known where it was accepted into the queue."""
    asked_s: float = field(default_factory=time.monotonic)
    came_s: list[float] = field(default_factory=list)
    """When each message with tokens came."""
    finished: router_pb2.Finished | None = None
    failed: router_pb2.Failed | None = None
    broke: grpc.aio.AioRpcError | None = None
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    went_on: asyncio.Event = field(default_factory=asyncio.Event)
    """Another worker took over and has brought a token, or the answer is over."""

    def take(self, event: router_pb2.StreamChatResponse) -> None:
        """The next event; AssertionError where it may not come now."""
        kind = event.WhichOneof("event")
        assert self.finished is None and self.failed is None, f"{kind} after the end"
        assert (kind == "accepted") == (not self.workers), f"{kind} is out of order"
        if kind == "accepted":
            self.workers.append(event.accepted.worker_id)
        elif kind == "tokens":
            self._take_tokens(event.tokens)
        elif kind == "moved":
            assert event.moved.index == len(self.ids), f"moved at {event.moved.index}, {len(self.ids)} came"
            self.workers.append(event.moved.to_worker_id)
        elif kind == "finished":
            self.finished = event.finished
            assert self.finished.usage.completion_tokens == len(self.ids)
        elif kind == "failed":
            self.failed = event.failed

    def _take_tokens(self, tokens: router_pb2.Tokens) -> None:
        assert tokens.index == len(self.ids), f"token {tokens.index} came where {len(self.ids)} was due"
        self.ids += tokens.token_ids
        self.text += tokens.text
        self.came_s.append(time.monotonic())
        if len(self.ids) >= BEGUN_TOKENS:
            self.begun.set()
        if self.moved:
            self.went_on.set()

    def complete(self, tokens: int) -> Self:
        """It is whole: one `finished` that says so, and all of its tokens unless the model itself ended it."""
        assert self.broke is None, f"{self.prompt}: {self.broke}"
        assert self.failed is None, f"{self.prompt}: {self.failed}"
        assert self.finished is not None, f"{self.prompt}: no end"
        if self.finished.reason != chat_pb2.FINISH_REASON_STOP:
            assert self.finished.reason == chat_pb2.FINISH_REASON_LENGTH, self.finished
            assert len(self.ids) == tokens, f"{self.prompt}: {len(self.ids)} tokens of {tokens}"
        return self

    @property
    def moved(self) -> bool:
        """More than one worker worked on it after its first token."""
        return len(self.workers) > 1

    @property
    def ttft_s(self) -> float:
        """From the question to its first token."""
        return self.came_s[0] - self.asked_s

    @property
    def gaps_s(self) -> list[float]:
        """Times between its messages."""
        return [later - earlier for earlier, later in zip(self.came_s, self.came_s[1:], strict=False)]

    @property
    def longest_gap_s(self) -> float:
        """The longest of them."""
        return max(self.gaps_s, default=0.0)


def request(prompt: str, tokens: int, model: str = "") -> router_pb2.StreamChatRequest:
    """A greedy chat for so many tokens."""
    return router_pb2.StreamChatRequest(
        model=model,
        messages=[chat_pb2.Message(content=prompt)],
        sampling=chat_pb2.Sampling(max_tokens=tokens, temperature=0),
    )


async def listen(stub: RouterServiceStub, heard: Heard, tokens: int, model: str = "") -> Heard:
    """One answer to its end; a status instead of an end stands in `broke`."""
    call: Any = stub.StreamChat(request(heard.prompt, tokens, model), timeout=2 * LIVE_LIMIT_S)
    try:
        while (event := await call.read()) is not grpc.aio.EOF:
            heard.take(event)
    except grpc.aio.AioRpcError as error:
        heard.broke = error
    finally:
        call.cancel()
        heard.begun.set()
        heard.went_on.set()
    return heard


def through(stub: RouterServiceStub, model: str = "") -> "Ask":
    """Asks through this stub."""
    return lambda heard, tokens: listen(stub, heard, tokens, model)


Ask = Callable[[Heard, int], Coroutine[Any, Any, Heard]]
"""Asks for so many tokens and hears the answer to its end."""


class Crowd:
    """Many answers at once. `async with` ends those that are left."""

    def __init__(self, ask: Ask, prompts: Iterable[str], tokens: int) -> None:
        self.tokens = tokens
        self.heard = [Heard(prompt) for prompt in prompts]
        self._tasks = [asyncio.create_task(ask(heard, tokens)) for heard in self.heard]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def begun(self) -> None:
        """Waits until each has its first few tokens, or its end."""
        async with asyncio.timeout(LIVE_LIMIT_S):
            await asyncio.gather(*(heard.begun.wait() for heard in self.heard))

    @staticmethod
    async def moved(hit: Iterable[Heard]) -> None:
        """Waits until each of these goes on elsewhere, or is over."""
        async with asyncio.timeout(LIVE_LIMIT_S):
            await asyncio.gather(*(heard.went_on.wait() for heard in hit))

    async def over(self) -> list[Heard]:
        """Waits until each is over; raises what was wrong with any."""
        async with asyncio.timeout(2 * LIVE_LIMIT_S):
            return await asyncio.gather(*self._tasks)

    async def complete(self) -> list[Heard]:
        """Waits until each is over, and whole."""
        return [heard.complete(self.tokens) for heard in await self.over()]

    def on(self, worker_id: str) -> list[Heard]:
        """Those that the worker had first."""
        return [heard for heard in self.heard if heard.workers[:1] == [worker_id]]


def prompts(count: int, seed: int = 0) -> list[str]:
    """So many questions, each its own."""
    return [f"question {seed}-{number}: what comes next?" for number in range(count)]


async def undisturbed(stub: RouterServiceStub, asked: Sequence[str], tokens: int) -> list[Heard]:
    """The same answers while nothing is broken."""
    async with Crowd(through(stub), asked, tokens) as crowd:
        found = await crowd.complete()
    assert not any(heard.moved for heard in found)
    return found


def same(found: Sequence[Heard], expected: Sequence[Heard]) -> None:
    """AssertionError unless each answer has the tokens and the text that it has undisturbed."""
    for heard, wanted in zip(found, expected, strict=True):
        assert heard.prompt == wanted.prompt
        assert heard.ids == wanted.ids, f"{heard.prompt}: other tokens"
        assert heard.text == wanted.text, f"{heard.prompt}: other text"


def longest_gap_ms(found: Iterable[Heard]) -> float:
    """The longest silence that any of these clients saw in its answer."""
    return 1e3 * max((heard.longest_gap_s for heard in found), default=0.0)
