"""The queue of requests that found every worker full: bounded, by priority, then fair by tenant. Time is an argument.

Fairness is start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996): a request's start tag is the later of the
class's virtual time and its tenant's last finish tag, and the smallest start tag goes first. Between two tenants that
always have requests waiting, the tokens served differ by at most their largest two requests together, and by what the
requests under way turn out to take more or less than was expected.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from services.router.core.chat import Priority

TENANTS_KEPT = 1024
"""Tenants without a place whose finish tags are kept for each class."""


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """At most so many requests, so many of their tokens, and so long."""

    requests: int
    tokens: int
    wait_s: float


@dataclass(frozen=True, slots=True)
class Ticket:
    """A place in the queue. `tokens` is what the request is expected to cost; `expires_s` is when it leaves."""

    number: int
    priority: Priority
    tenant: str
    tokens: int
    arrived_s: float
    expires_s: float


class Why(Enum):
    """Which bound was met."""

    REQUESTS = "requests"
    TOKENS = "tokens"


@dataclass(frozen=True, slots=True)
class Joined:
    """The ticket waits; `displaced` lost their places to it."""

    ticket: Ticket
    displaced: tuple[Ticket, ...] = ()


@dataclass(frozen=True, slots=True)
class QueueFull:
    """There is no place; the expected wait, where known, says when to try again."""

    why: Why
    expected_wait_s: float | None


@dataclass(slots=True)
class _Class:
    """One priority class: its virtual time, and each tenant's last finish tag and places."""

    now: float = 0.0
    finish: dict[str, float] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)


class AdmissionQueue:
    """The queue of one model.

    At a bound the newcomer is refused, unless somebody gives way: first whoever came last in the lowest class below
    the newcomer's; then, within its class, whoever came last of the tenant that holds the most places, where that is
    at least two more than the newcomer's tenant holds. So neither batch work nor one tenant can shut others out.
    """

    def __init__(self, limits: QueueLimits) -> None:
        self._limits = limits
        self._classes = {priority: _Class() for priority in sorted(Priority, reverse=True)}
        self._waiting: dict[int, Ticket] = {}
        self._starts: dict[int, float] = {}
        self._next_number = 1
        self._interval_s: float | None = None
        self._left_s: float | None = None
        self.tokens = 0
        """Expected cost of all that wait."""

    def __repr__(self) -> str:
        return f"AdmissionQueue(requests={len(self)} tokens={self.tokens})"

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Ticket]:
        """In the order in which they would be served if nobody else came."""
        return iter(sorted(self._waiting.values(), key=self._order))

    def heads(self, limit: int) -> list[Ticket]:
        """The first so many of them, without putting all of them in order."""
        return heapq.nsmallest(limit, self._waiting.values(), key=self._order)

    @property
    def front(self) -> tuple[int, float]:
        """Where it stands among the queues of other names: the class of its first, and since when that waits."""
        first = self.heads(1)
        return (-first[0].priority, first[0].arrived_s) if first else (0, 0.0)

    def _order(self, ticket: Ticket) -> tuple[int, float, int]:
        return (-ticket.priority, self._starts[ticket.number], ticket.number)

    def join(self, priority: Priority, tenant: str, tokens: int, now_s: float, deadline_s: float) -> Joined | QueueFull:
        """Takes a place that lapses at the deadline or after the longest wait, whichever is earlier.

        Whoever waits for it leaves then, by `expires_s`: the queue itself looks at no clock.
        """
        expires_s = min(deadline_s, now_s + self._limits.wait_s)
        ticket = Ticket(self._next_number, priority, tenant, max(1, tokens), now_s, expires_s)
        displaced = self._displaced(ticket)
        if isinstance(displaced, Why):
            return QueueFull(displaced, self.expected_wait_s(len(self) + 1))
        for victim in displaced:
            self.leave(victim.number)
        self._next_number += 1
        group = self._classes[priority]
        start = max(group.now, group.finish.get(tenant, 0.0))
        group.finish[tenant] = start + ticket.tokens
        group.places[tenant] = group.places.get(tenant, 0) + 1
        self._waiting[ticket.number] = ticket
        self._starts[ticket.number] = start
        self.tokens += ticket.tokens
        self._forget_tenants(group)
        return Joined(ticket, tuple(displaced))

    def leave(self, number: int) -> None:
        """Gives the place up: displaced, cancelled or lapsed. The tenant does not pay for it, and nothing happens where
        it is gone already."""
        ticket = self._waiting.get(number)
        if ticket is not None:
            finish = self._classes[ticket.priority].finish
            if ticket.tenant in finish:
                finish[ticket.tenant] -= ticket.tokens
            self._remove(ticket)

    def _remove(self, ticket: Ticket) -> None:
        del self._waiting[ticket.number], self._starts[ticket.number]
        self.tokens -= ticket.tokens
        places = self._classes[ticket.priority].places
        places[ticket.tenant] -= 1
        if not places[ticket.tenant]:
            del places[ticket.tenant]

    @staticmethod
    def _forget_tenants(group: _Class) -> None:
        """Bounds what is kept of tenants without a place: those go first who owe the class's present the least."""
        if len(group.finish) <= 2 * TENANTS_KEPT + len(group.places):
            return
        absent = sorted((tag, tenant) for tenant, tag in group.finish.items() if tenant not in group.places)
        for _, tenant in absent[: len(absent) - TENANTS_KEPT]:
            del group.finish[tenant]

    def served(self, ticket: Ticket, now_s: float) -> None:
        """The ticket was placed: its class's virtual time moves on, and the pace of the queue is learned."""
        group = self._classes[ticket.priority]
        group.now = max(group.now, self._starts[ticket.number])
        self._remove(ticket)
        if self._left_s is not None:
            interval_s = now_s - self._left_s
            known_s = self._interval_s
            self._interval_s = interval_s if known_s is None else known_s + (interval_s - known_s) / 8
        self._left_s = now_s if self._waiting else None

    def settle(self, ticket: Ticket, tokens: int) -> None:
        """The request that held this ticket is over, and took so many tokens: its tenant pays or gets the difference.

        What was expected decides who goes first now; what it took decides who goes first next time.
        """
        finish = self._classes[ticket.priority].finish
        if ticket.tenant in finish:
            finish[ticket.tenant] += tokens - ticket.tokens

    def position(self, number: int) -> int:
        """From 1; 0 for a ticket that does not wait."""
        ticket = self._waiting.get(number)
        if ticket is None:
            return 0
        mine = self._order(ticket)
        return 1 + sum(self._order(other) < mine for other in self._waiting.values())

    def expected_wait_s(self, position: int) -> float | None:
        """How long until this place is served, from the pace at which the queue has moved; None before it has."""
        return None if self._interval_s is None else position * self._interval_s

    def _displaced(self, ticket: Ticket) -> list[Ticket] | Why:
        """Who gives way to the ticket, or the bound that it meets where too few have to."""
        requests = len(self) + 1 - self._limits.requests
        tokens = self.tokens + ticket.tokens - self._limits.tokens
        gone: list[Ticket] = []
        if ticket.tokens > self._limits.tokens:
            return Why.TOKENS
        for victim in self._givers(ticket) if requests > 0 or tokens > 0 else ():
            gone.append(victim)
            requests, tokens = requests - 1, tokens - victim.tokens
            if requests <= 0 and tokens <= 0:
                return gone
        if requests <= 0 and tokens <= 0:
            return gone
        return Why.REQUESTS if requests > 0 else Why.TOKENS

    def _givers(self, ticket: Ticket) -> Iterator[Ticket]:
        """Those who have to give way, in order; each is looked at once."""
        for priority in sorted(Priority):
            if priority < ticket.priority and self._classes[priority].places:
                yield from [t for t in reversed(self._waiting.values()) if t.priority == priority]
        places = dict(self._classes[ticket.priority].places)
        if not places:
            return
        by_tenant: dict[str, list[Ticket]] = {}
        for other in self._waiting.values():
            if other.priority == ticket.priority:
                by_tenant.setdefault(other.tenant, []).append(other)
        # The tenant with the most places, and of equal ones the last by name, as a heap of negated counts.
        heap = [(-count, _backwards(tenant), tenant) for tenant, count in places.items()]
        heapq.heapify(heap)
        own = places.get(ticket.tenant, 0)
        while heap and -heap[0][0] >= own + 2:
            count, key, tenant = heap[0]
            yield by_tenant[tenant].pop()
            heapq.heapreplace(heap, (count + 1, key, tenant))


def _backwards(name: str) -> tuple[int, ...]:
    """A key that puts names in the opposite order."""
    return tuple(-ord(letter) for letter in name)
