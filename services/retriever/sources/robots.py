"""What robots.txt files allow (RFC 9309), by origin, each fetched once in a while and kept in bounds."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from protego import Protego

from services.kit.clock import Now
from services.retriever.failure import IngestFailure, unreadable
from services.retriever.locks import Locks

_MAX_ORIGINS = 1000
MAX_BYTES = 512 * 1024

Fetch = Callable[[str], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class _Rules:
    at_s: float
    rules: Protego


class Robots:
    """`fetch` gives an origin's robots.txt as a text, an empty one where it has none; SourceAway where it is away."""

    def __init__(self, fetch: Fetch, user_agent: str, ttl_s: float, now: Now) -> None:
        self._fetch = fetch
        self._user_agent = user_agent
        self._ttl_s = ttl_s
        self._now = now
        self._rules: OrderedDict[str, _Rules] = OrderedDict()
        self._locks = Locks[str]()

    def __repr__(self) -> str:
        return f"Robots({len(self._rules)} origins)"

    async def check(self, origin: str, url: str) -> float:
        """Seconds that it wants between two requests; 0: it names none. Raises IngestFailure where it forbids."""
        rules = await self._of(origin)
        if not rules.can_fetch(url, self._user_agent):
            raise _forbidden(url)
        return rules.crawl_delay(self._user_agent) or 0.0

    async def _of(self, origin: str) -> Protego:
        # Pages of one site come in bunches, and one of them asks for all.
        async with self._locks.hold(origin):
            known = self._rules.pop(origin, None)
            if known is None or self._now() - known.at_s > self._ttl_s:
                known = _Rules(self._now(), Protego.parse(await self._fetch(origin)))
            self._rules[origin] = known
        while len(self._rules) > _MAX_ORIGINS:
            self._rules.popitem(last=False)
        return known.rules


def _forbidden(url: str) -> IngestFailure:
    return unreadable("ROBOTS_FORBID", f"{url} is not to be fetched, its site's robots.txt says; ask its owner")
