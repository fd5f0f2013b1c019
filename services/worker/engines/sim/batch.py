"""Who runs, who waits and who has to make room in the sim engine: continuous batching over a KV cache. It has no clock.

    waits -> prefill -> prefilled -> decodes
      ^                                 |
      +---- preempted: no block free ---+

A request is admitted, in order, when a place is free and the cache has room for its whole prompt. Where an answer needs
one more block and there is none, the request that was admitted last gives up its own, and computes them again later.
"""

from collections import OrderedDict
from collections.abc import Iterator

from services.worker.engines.sim.cache import KvCache
from services.worker.engines.sim.prefill import Prefill
from services.worker.engines.sim.request import BLOCK_TOKENS, Request


class Batch:
    """Bounded by `max_running` and the cache; whoever adds requests bounds how many wait."""

    def __init__(self, cache: KvCache, prefill: Prefill, max_running: int, ttft_s: float) -> None:
        self._cache = cache
        self._prefill = prefill
        self._max_running = max_running
        self.ttft_s = ttft_s
        self.waiting: OrderedDict[int, Request] = OrderedDict()
        self.running: dict[int, Request] = {}
        """Those with a place, in the order of their admission: in the prefill, or in one of the next two."""
        self._prefilled: dict[int, Request] = {}
        self.decoding: dict[int, Request] = {}
        self.queued_tokens = 0
        self.preemptions = 0

    def __repr__(self) -> str:
        return f"Batch(running={len(self.running)} waiting={len(self.waiting)} {self._cache!r})"

    def get(self, key: int) -> Request | None:
        """The request, while it is not over."""
        return self.running.get(key) or self.waiting.get(key)

    def add(self, request: Request, now_s: float) -> None:
        """Takes a request on, at the end of those that wait."""
        self.queued_tokens += request.queued_tokens
        self.waiting[request.key] = request
        self._admit(now_s)

    def _admit(self, now_s: float) -> None:
        while self.waiting and len(self.running) < self._max_running:
            request = next(iter(self.waiting.values()))
            self.catch_up(now_s)
            if not self._seat(request):
                return
            del self.waiting[request.key]
            self.running[request.key] = request
            self._prefill.add(request, now_s)
            self.catch_up(now_s)

    def _seat(self, request: Request) -> bool:
        """Takes its blocks; False where the cache has not as many."""
        more = request.answer_blocks(request.index + 1)
        pinned = self._cache.admit(request.prompt.hashes, more)
        if pinned < 0:
            return False
        request.pinned = pinned
        request.unnamed = len(request.prompt.hashes) - pinned + more
        request.grows_at = request.room_of(more)
        return True

    def catch_up(self, now_s: float) -> None:
        """What the prefill has done until then."""
        for request, done_s in self._prefill.advance(now_s):
            request.ready_s = done_s + self.ttft_s
            self._prefilled[request.key] = request

    def promote(self, ready_s: float) -> Iterator[Request]:
        """Lets those decode whose first token is due; yields those that are to end before it, and leaves them."""
        self.catch_up(ready_s)
        # They stand in the order of their times.
        due = [request for request in self._prefilled.values() if request.ready_s <= ready_s]
        for request in due:
            del self._prefilled[request.key]
            self._prefill_over(request)
            if request.index < request.end:
                self.decoding[request.key] = request
            else:
                yield request

    def _prefill_over(self, request: Request) -> None:
        self.queued_tokens -= request.queued_tokens
        request.queued_tokens = 0

    def first_token_s(self, request: Request) -> float:
        """When its first token is due, as far as that is known."""
        return request.ready_s or self._prefill.end_s + self.ttft_s

    def grow(self, request: Request, now_s: float) -> None:
        """One more block for its answer, for which others may have to wait anew, or it itself."""
        while request.key in self.decoding:
            if self._cache.take():
                request.unnamed += 1
                request.grows_at += BLOCK_TOKENS
                return
            self._preempt(next(reversed(self.running.values())), now_s)

    def _preempt(self, request: Request, now_s: float) -> None:
        self.preemptions += 1
        self._leave(request, now_s)
        request.wait_again()
        self.queued_tokens += request.queued_tokens
        self.waiting[request.key] = request
        self.waiting.move_to_end(request.key, last=False)

    def drop(self, request: Request, now_s: float) -> None:
        """It is over: its place and its blocks go to those that wait."""
        if self.waiting.pop(request.key, None) is not None:
            self._prefill_over(request)
        else:
            self._leave(request, now_s)
        self._admit(now_s)

    def _leave(self, request: Request, now_s: float) -> None:
        self._prefill_over(request)
        del self.running[request.key]
        self._prefilled.pop(request.key, None)
        self.decoding.pop(request.key, None)
        self._prefill.remove(request, now_s)
        self._cache.release(request.prompt.hashes[: request.pinned], request.unnamed)
