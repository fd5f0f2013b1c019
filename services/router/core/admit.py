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
    """One priority class: its virtual time, each tenant's last finish tag and places, and who waits, by start tag."""

    now: float = 0.0
    finish: dict[str, float] = field(default_factory=dict)
    heap: list[tuple[float, int, Ticket]] = field(default_factory=list)
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
        for group in self._classes.values():
            for _, number, ticket in sorted(group.heap):
                if number in self._waiting:
                    yield ticket

    def join(self, priority: Priority, tenant: str, tokens: int, now_s: float, deadline_s: float) -> Joined | QueueFull:
        """Takes a place that lapses at the deadline or after the longest wait, whichever is earlier."""
        expires_s = min(deadline_s, now_s + self._limits.wait_s)
        ticket = Ticket(self._next_number, priority, tenant, max(1, tokens), now_s, expires_s)
        displaced: list[Ticket] = []
        while (why := self._over(ticket, displaced)) is not None:
            victim = self._victim(ticket, displaced)
            if victim is None:
                return QueueFull(why, self.expected_wait_s(len(self) + 1))
            displaced.append(victim)
        for victim in displaced:
            self.leave(victim.number)
        self._next_number += 1
        group = self._classes[priority]
        start = max(group.now, group.finish.get(tenant, 0.0))
        group.finish[tenant] = start + ticket.tokens
        heapq.heappush(group.heap, (start, ticket.number, ticket))
        self._waiting[ticket.number] = ticket
        self._starts[ticket.number] = start
        group.places[tenant] = group.places.get(tenant, 0) + 1
        self.tokens += ticket.tokens
        return Joined(ticket, tuple(displaced))

    def leave(self, number: int) -> None:
        """Gives the place up: placed, cancelled or lapsed. Nothing happens where it is gone already."""
        ticket = self._waiting.pop(number, None)
        if ticket is None:
            return
        self.tokens -= ticket.tokens
        del self._starts[number]
        group = self._classes[ticket.priority]
        group.places[ticket.tenant] -= 1
        if not group.places[ticket.tenant]:
            del group.places[ticket.tenant]
        while group.heap and group.heap[0][1] not in self._waiting:
            heapq.heappop(group.heap)
        if len(group.heap) > 2 * len(self._waiting) + 16:
            group.heap = [entry for entry in group.heap if entry[1] in self._waiting]
            heapq.heapify(group.heap)

    def served(self, ticket: Ticket, now_s: float) -> None:
        """The ticket was placed: its class's virtual time moves on, and the pace of the queue is learned."""
        group = self._classes[ticket.priority]
        group.now = max(group.now, self._starts[ticket.number])
        self.leave(ticket.number)
        if len(group.finish) > TENANTS_KEPT + len(group.places):
            # Who owes nothing to the class's present is as good as new, so forgetting it changes no order.
            group.finish = {tenant: tag for tenant, tag in group.finish.items() if tag > group.now}
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

    def lapsed(self, now_s: float) -> list[Ticket]:
        """Takes out everyone whose time is over."""
        gone = [ticket for ticket in self._waiting.values() if ticket.expires_s <= now_s]
        for ticket in gone:
            self.leave(ticket.number)
        return gone

    def position(self, number: int) -> int:
        """From 1; 0 for a ticket that does not wait."""
        return next((place for place, ticket in enumerate(self, 1) if ticket.number == number), 0)

    def expected_wait_s(self, position: int) -> float | None:
        """How long until this place is served, from the pace at which the queue has moved; None before it has."""
        return None if self._interval_s is None else position * self._interval_s

    def _over(self, ticket: Ticket, displaced: list[Ticket]) -> Why | None:
        if len(self) - len(displaced) + 1 > self._limits.requests:
            return Why.REQUESTS
        if self.tokens - sum(t.tokens for t in displaced) + ticket.tokens > self._limits.tokens:
            return Why.TOKENS
        return None

    def _victim(self, ticket: Ticket, displaced: list[Ticket]) -> Ticket | None:
        """Who gives way to the ticket; None where nobody has to."""
        for priority in sorted(Priority):
            group = self._classes[priority]
            if not group.places or priority > ticket.priority:
                continue
            if priority < ticket.priority:
                found = self._last(priority, None, displaced)
            else:
                greedy = max(group.places, key=lambda tenant: (group.places[tenant], tenant))
                gone = sum(t.priority == priority and t.tenant == greedy for t in displaced)
                if group.places[greedy] - gone < group.places.get(ticket.tenant, 0) + 2:
                    return None
                found = self._last(priority, greedy, displaced)
            if found is not None:
                return found
        return None

    def _last(self, priority: Priority, tenant: str | None, displaced: list[Ticket]) -> Ticket | None:
        """Who came last in a class, or of one tenant in it, and has not given way yet."""
        fits = (
            t
            for t in reversed(self._waiting.values())
            if t.priority == priority and tenant in (None, t.tenant) and t not in displaced
        )
        return next(fits, None)
