"""Gathers what an engine brings for one request at a time into one step for all of them."""

import asyncio
from collections.abc import Callable

from services.kit.errors import WeftError
from services.worker.ports import EngineLoad, Finish, Sink, Started, Step, Tokens

# Such engines decode all requests together and then send their tokens one after the other, within less than this.
GATHER_S = 0.002
# Share of the newest step in the mean step time.
_NEWEST = 1 / 16


class Gatherer:
    """Hands a step on as soon as every running request is in it, or `GATHER_S` after its first part."""

    def __init__(self, sink: Sink, load: Callable[[], EngineLoad], running: Callable[[], int]) -> None:
        self._sink = sink
        self._load = load
        self._running = running
        self._loop = asyncio.get_running_loop()
        self._started: list[Started] = []
        self._tokens: dict[int, Tokens] = {}
        self._ended: list[tuple[int, Finish | WeftError]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._stepped_s = 0.0
        self.step_count = 0
        self.step_time_s = 0.0

    def started(self, key: int, prompt_tokens: int) -> None:
        """The request passed the checks."""
        self._started.append(Started(key, prompt_tokens))
        self._soon()

    def progressed(self) -> None:
        """The engine worked on a prompt: a step that brings no token."""
        self.step_count += 1
        self._soon()

    def tokens(self, new: Tokens) -> None:
        """New tokens of one request."""
        self._join(new)
        if len(self._tokens) >= self._running():
            self.flush()
        else:
            self._soon()

    def ended(self, key: int, outcome: Finish | WeftError, last: Tokens | None = None) -> None:
        """The request is over; its last tokens go out together with its end, and at once, since its place is free."""
        if last is not None:
            self._join(last)
        self._ended.append((key, outcome))
        self.flush()

    def _join(self, new: Tokens) -> None:
        """Tokens of a request that still wait take the new ones in: a step has one entry for each request."""
        if (before := self._tokens.get(new.key)) is not None:
            text, logprobs = before.text + new.text, before.logprobs + new.logprobs
            new = Tokens(new.key, before.first, before.ids + new.ids, text, logprobs)
        self._tokens[new.key] = new

    def _soon(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(GATHER_S, self.flush)

    def flush(self) -> None:
        """Hands on what there is."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._tokens:
            now_s = self._loop.time()
            self.step_count += 1
            if self._stepped_s and now_s - self._stepped_s < 60.0:
                self.step_time_s += (now_s - self._stepped_s - self.step_time_s) * _NEWEST
            self._stepped_s = now_s
        step = Step(self._load(), self._started, list(self._tokens.values()), self._ended)
        self._started, self._tokens, self._ended = [], {}, []
        self._sink(step)

    def idle(self) -> None:
        """Nothing runs: the time until the next step is no step time."""
        self._stepped_s = 0.0

    def close(self) -> None:
        """Drops what waits."""
        if self._timer is not None:
            self._timer.cancel()
