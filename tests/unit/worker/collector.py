"""Collects an engine's steps the way a router reads them, and checks their order on the way."""

import asyncio
from dataclasses import dataclass, field

from services.kit.errors import WeftError
from services.worker.ports import Finish, Logprob, Step


@dataclass
class Got:
    """What came for one request."""

    ids: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    logprobs: list[Logprob] = field(default_factory=list)
    started: int | None = None
    cached: int = 0
    outcome: Finish | WeftError | None = None

    @property
    def text(self) -> str:
        return "".join(self.texts)

    @property
    def finish(self) -> Finish:
        assert isinstance(self.outcome, Finish), self.outcome
        return self.outcome

    @property
    def error(self) -> WeftError:
        assert isinstance(self.outcome, WeftError), self.outcome
        return self.outcome


class Collector:
    """A sink; `resumed` tells it how many tokens a request begins with."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.of: dict[int, Got] = {}
        self.resumed: dict[int, int] = {}
        self._changed = asyncio.Event()

    def __call__(self, step: Step) -> None:
        self.steps.append(step)
        for key, prompt_tokens, cached_tokens in step.started:
            got = self.of.setdefault(key, Got())
            got.started, got.cached = prompt_tokens, cached_tokens
        assert len({tokens.key for tokens in step.tokens}) == len(step.tokens), "two entries for one request"
        for tokens in step.tokens:
            got = self.of[tokens.key]
            assert got.outcome is None, "tokens after the end"
            assert tokens.first == self.resumed.get(tokens.key, 0) + len(got.ids), "a gap or a repeat"
            got.ids += tokens.ids
            got.texts.append(tokens.text)
            got.logprobs += tokens.logprobs
        for key, outcome in step.ended:
            got = self.of.setdefault(key, Got())
            assert got.outcome is None, "ended twice"
            got.outcome = outcome
        self._changed.set()

    async def ended(self, *keys: int) -> list[Got]:
        """Waits until these requests are over."""
        while not all(key in self.of and self.of[key].outcome is not None for key in keys):
            self._changed.clear()
            await self._changed.wait()
        return [self.of[key] for key in keys]

    async def tokens(self, key: int, count: int = 1) -> Got:
        """Waits until a request has this many tokens."""
        while key not in self.of or len(self.of[key].ids) < count:
            self._changed.clear()
            await self._changed.wait()
        return self.of[key]
