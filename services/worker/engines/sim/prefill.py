"""The sim engine's prefill: one prompt after the other, what is cached left out. It knows no clock."""

from collections.abc import Iterator

from services.worker.engines.sim.cache import KvCache
from services.worker.engines.sim.request import Request


class Prefill:
    """Prompts in the order of their arrival; whoever adds them bounds how many.

    The next one looks into the cache when its turn comes, so that it finds what those before it have stored.
    """

    def __init__(self, cache: KvCache, tokens_per_s: float) -> None:
        self._cache = cache
        self.tokens_per_s = tokens_per_s
        """Of the prompts whose turn comes from now on."""
        self._queue: dict[int, Request] = {}
        self._end_s = 0.0

    def __repr__(self) -> str:
        return f"Prefill(queue={len(self._queue)} end_s={self._end_s:.3f})"

    @property
    def end_s(self) -> float:
        """When the prompt whose turn it is will be done, or the last one was."""
        return self._end_s

    def add(self, request: Request, now_s: float) -> None:
        """Puts a prompt at the end. Call `advance` to `now_s` first."""
        self._queue[request.key] = request
        if len(self._queue) == 1:
            self._begin(request, max(now_s, self._end_s))

    def _begin(self, request: Request, at_s: float) -> None:
        request.name_blocks(self._cache.pin(request.prompt.hashes, request.pinned))
        request.expect(request.pinned)
        self._end_s = at_s + request.todo_tokens / self.tokens_per_s

    def advance(self, now_s: float) -> Iterator[tuple[Request, float]]:
        """The prompts that are done by then, and when each was."""
        while self._queue and self._end_s <= now_s:
            request = self._queue.pop(next(iter(self._queue)))
            request.name_blocks(self._cache.store(request.prompt.hashes, request.pinned))
            yield request, self._end_s
            self._begin_next(self._end_s)

    def _begin_next(self, at_s: float) -> None:
        following = next(iter(self._queue.values()), None)
        if following is not None:
            self._begin(following, at_s)

    def remove(self, request: Request, now_s: float) -> None:
        """Forgets a prompt, if it is here; where it was its turn, the next one's begins. Call `advance` first."""
        if request.key not in self._queue:
            return
        first = next(iter(self._queue))
        del self._queue[request.key]
        if first == request.key:
            self._end_s = now_s
            self._begin_next(now_s)
