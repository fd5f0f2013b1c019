"""Holds requests that found no worker until there is room: the shell around the core's queue, one for each model."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from services.kit.clock import Now
from services.kit.errors import Exhausted
from services.router.case import Placed
from services.router.core.admit import AdmissionQueue, Joined, QueueFull, QueueLimits, Ticket
from services.router.core.chat import Priority

SCAN_LIMIT = 64
"""Tickets that are looked at in one go: so many may wait for a certain worker without holding up the others."""


class Unplaced(Enum):
    """Why a request that waits was not placed: no worker has room, or none of those that it could go to."""

    FULL = "full"
    PARTICULAR = "particular"


Place = Callable[[], Placed | Unplaced]
"""Picks a worker for one request and reserves its load."""


@dataclass(slots=True)
class _Waiting:
    place: Place
    placed: "asyncio.Future[Placed]"


class Seat:
    """One request's place in the queue; `leave` must be called when the wait is over, however it ends."""

    def __init__(self, room: "WaitingRoom", model: str, ticket: Ticket, placed: "asyncio.Future[Placed]") -> None:
        self._room = room
        self._model = model
        self.ticket = ticket
        self.placed = placed
        self._taken = False

    @property
    def position(self) -> int:
        """From 1."""
        return self._room.queue(self._model).position(self.ticket.number)

    def expected_wait_s(self, position: int) -> float | None:
        """For this place in the queue; None where nothing is known yet."""
        return self._room.queue(self._model).expected_wait_s(position)

    def take(self) -> Placed:
        """The place that came; the caller owns its reservation now. Raises where the seat was lost to another."""
        placed = self.placed.result()
        self._taken = True
        return placed

    def leave(self) -> Placed | None:
        """Gives the seat up; what was reserved and not taken, which the caller has to release."""
        left = self._room.leave(self._model, self.ticket, self.placed)
        return None if self._taken else left


class WaitingRoom:
    """Every model's queue, and who waits in it. `pump` is called whenever a worker may have room."""

    def __init__(self, limits: QueueLimits, now: Now) -> None:
        self._limits = limits
        self._now = now
        self._queues: dict[str, AdmissionQueue] = {}
        self._waiting: dict[tuple[str, int], _Waiting] = {}

    def __repr__(self) -> str:
        return f"WaitingRoom({self._queues})"

    def queue(self, model: str) -> AdmissionQueue:
        """The model's queue."""
        if model not in self._queues:
            self._queues[model] = AdmissionQueue(self._limits)
        return self._queues[model]

    def is_empty(self, model: str) -> bool:
        """Whether nobody waits for the model, so that a newcomer passes nobody by."""
        return not len(self._queues.get(model, ()))

    def join(
        self, model: str, priority: Priority, tenant: str, tokens: int, deadline_s: float, place: Place
    ) -> Seat | QueueFull:
        """Waits for a place; those who give way to it are told."""
        joined = self.queue(model).join(priority, tenant, tokens, self._now(), deadline_s)
        if not isinstance(joined, Joined):
            return joined
        for ticket in joined.displaced:
            self._refuse(model, ticket)
        placed: asyncio.Future[Placed] = asyncio.get_running_loop().create_future()
        self._waiting[model, joined.ticket.number] = _Waiting(place, placed)
        self.pump(model)
        return Seat(self, model, joined.ticket, placed)

    def pump(self, *names: str) -> None:
        """Places whoever can be placed now, in order, of all that one worker answers to.

        Where several of these have a queue, the one goes first whose front does, so that none is passed by for ever.
        """
        if not self._waiting:
            return
        queues = [(name, queue) for name in names if (queue := self._queues.get(name))]
        if len(queues) > 1:
            queues.sort(key=lambda named: named[1].front)
        for name, queue in queues:
            self._pump(name, queue)

    def pump_all(self) -> None:
        """The same for every model and adapter."""
        self.pump(*self._queues)

    def _pump(self, model: str, queue: AdmissionQueue) -> None:
        """Offers places from the front. Some who wait need a certain worker, and hold up nobody who does not."""
        looking = True
        while looking:
            looking = False
            for ticket in queue.heads(SCAN_LIMIT):
                found = self._waiting[model, ticket.number].place()
                if isinstance(found, Placed):
                    queue.served(ticket, self._now())
                    self._waiting.pop((model, ticket.number)).placed.set_result(found)
                    looking = True
                elif found is Unplaced.FULL:
                    # It would take any worker, and there is none: so it is for everyone behind it.
                    return

    def leave(self, model: str, ticket: Ticket, placed: "asyncio.Future[Placed]") -> Placed | None:
        """See Seat.leave."""
        if self._waiting.pop((model, ticket.number), None) is not None:
            self.queue(model).leave(ticket.number)
        if placed.done() and not placed.cancelled() and placed.exception() is None:
            return placed.result()
        placed.cancel()
        return None

    def _refuse(self, model: str, ticket: Ticket) -> None:
        waiting = self._waiting.pop((model, ticket.number))
        wait_s = self.queue(model).expected_wait_s(len(self.queue(model)) + 1)
        text = "the queue is full, and a request that goes first took this one's place; try again later"
        waiting.placed.set_exception(Exhausted(text, reason="DISPLACED", retry_delay_s=max(1.0, wait_s or 1.0)))
