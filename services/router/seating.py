"""Gets a request its worker: at once where one has room and nobody waits, and otherwise by its turn in the queue."""

import asyncio
from typing import Any

from services.kit.clock import Now
from services.kit.errors import DeadlineExceeded, Exhausted, WeftError
from services.kit.settings.router import RouterSettings
from services.router.answer import Answer
from services.router.case import Case, Placed
from services.router.core.admit import QueueFull
from services.router.core.pick import HOPELESS, Refusal, RefusalKind
from services.router.core.recover import retry_delay_s
from services.router.events import Stage
from services.router.placing import Placing
from services.router.refusals import gave_up
from services.router.stuck import unless_stuck
from services.router.waiting import Seat, Unplaced, WaitingRoom

_WORTH_WAITING = (RefusalKind.FULL, RefusalKind.SUSPECT)


class Seating:
    """Admits requests: run, queue or shed."""

    def __init__(self, placing: Placing, room: WaitingRoom, settings: RouterSettings, now: Now) -> None:
        self._placing = placing
        self._room = room
        self._settings = settings
        self._now = now

    async def seat(self, case: Case, answer: Answer) -> Placed | None:
        """A worker with the load reserved on it; None where the client cancelled while it waited.

        Raises what the client is told: shed, waited too long, nobody there, or the deadline.
        """
        if self._room.is_empty(case.chat.model):
            found = self._placing.place(case)
            if isinstance(found, Placed):
                return found
            refusal: Refusal | None = found
        else:
            refusal = self._placing.refusal(case)
        if refusal is not None and not self._is_worth_waiting(refusal, case):
            raise self._placing.error(refusal)
        return await self._queue(case, answer)

    @staticmethod
    def _is_worth_waiting(refusal: Refusal, case: Case) -> bool:
        if refusal.kind in HOPELESS:
            return False
        # A begun answer waits for a worker that is away, too: it may be on its way back.
        return case.recovers or refusal.kind in _WORTH_WAITING

    async def _queue(self, case: Case, answer: Answer) -> Placed | None:
        chat = case.chat

        def place() -> Placed | Unplaced:
            found = self._placing.place(case)
            if isinstance(found, Placed):
                return found
            return Unplaced.PARTICULAR if found.particular else Unplaced.FULL

        # What a begun answer costs its tenant is settled at its end, with what it cost before.
        cost = 1 if case.recovers else self._placing.cost(case)
        until_s = case.deadline_s
        if case.recovers:
            until_s = min(until_s, self._now() + self._settings.failover.recover_wait_s)
        seat = self._room.join(chat.model, case.priority, chat.tenant, cost, until_s, place)
        if isinstance(seat, QueueFull):
            raise self._shed(case, seat)
        try:
            placed = await self._wait(seat, case, answer)
        finally:
            unused = seat.leave()
            if unused is not None:
                self._placing.release(unused, None)
        if placed is None and not answer.cancelled:
            raise self._lapsed(case, seat)
        return placed

    async def _wait(self, seat: Seat, case: Case, answer: Answer) -> Placed | None:
        """The place, once it comes; None when its time is over or the client cancelled."""
        while True:
            left_s = seat.ticket.expires_s - self._now()
            timeout_s = min(self._settings.progress_every_s, left_s)
            either: set[asyncio.Future[Any]] = {seat.placed, answer.gone}
            await asyncio.wait(either, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if seat.placed.done():
                case.ticket = case.ticket or seat.ticket
                return seat.take()
            if answer.cancelled or self._now() >= seat.ticket.expires_s:
                return None
            position = seat.position
            async with unless_stuck():
                await answer.progress(Stage.QUEUED, position, seat.expected_wait_s(position))

    def settle(self, case: Case, tokens: int) -> None:
        """The answer is over after so many tokens, prompt included: its tenant's share is put right."""
        if case.ticket is not None:
            self._room.queue(case.chat.model).settle(case.ticket, tokens)
            case.ticket = None

    def _shed(self, case: Case, full: QueueFull) -> WeftError:
        retry_s = self.retry_s(case, full.expected_wait_s)
        if case.recovers and case.last is not None:
            return gave_up(case.last, retry_s)
        text = f"the queue for {case.chat.model} is full (by {full.why.value}); try again in {retry_s:.0f} s"
        return Exhausted(text, reason="QUEUE_FULL", retry_delay_s=retry_s)

    def _lapsed(self, case: Case, seat: Seat) -> WeftError:
        if self._now() >= case.deadline_s:
            return DeadlineExceeded("the deadline passed while the request waited for a worker", reason="DEADLINE")
        if case.recovers and case.last is not None:
            return gave_up(case.last, self.retry_s(case))
        refusal = self._placing.refusal(case)
        if refusal is not None and refusal.kind is not RefusalKind.FULL:
            return self._placing.error(refusal)
        retry_s = self.retry_s(case, seat.expected_wait_s(len(self._room.queue(case.chat.model)) + 1))
        waited_s = self._settings.queue.wait_s
        text = f"no worker of {case.chat.model} had room for {waited_s:g} s; try again in {retry_s:.0f} s"
        return Exhausted(text, reason="QUEUE_TIMEOUT", retry_delay_s=retry_s)

    def retry_s(self, case: Case, expected_wait_s: float | None = None) -> float:
        """RetryInfo: what the queue's pace or the worker that failed the request last suggests, within reason."""
        return retry_delay_s(expected_wait_s, case.told_s(self._now()), self._settings.no_worker_retry_s)
