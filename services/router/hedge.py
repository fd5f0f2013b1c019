"""A second worker for the first token, when the first stays silent: whoever brings one goes on, the other stops."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from services.router.case import Placed
from services.router.core.recover import Failure, FailureKind, Outcome
from services.router.flow import Flow
from services.router.ports import Hedging


@dataclass(frozen=True, slots=True)
class Opened:
    """A request that was started on a link; `leave` tells the engine to stop, as often as it is called."""

    placed: Placed
    flow: Flow
    leave: Callable[[], None]


class Hedge:
    """Waits `after_s` for the first flow's token, then opens a second one. `close` ends what is left of it.

    Neither flow's tokens are touched before it is clear who goes on: the second one's pile up in it until then.
    """

    def __init__(self, hedging: Hedging, first: Flow, open_on: Callable[[Placed], Opened | None]) -> None:
        self._hedging = hedging
        self._first = first
        self._open_on = open_on
        self._second: Opened | None = None
        self._timer = asyncio.get_running_loop().call_later(hedging.after_s, self._start)
        first.races(self._first_won)

    def winner(self, outcome: Outcome) -> Opened | None:
        """The second request, where it goes on: it was faster, or the first one failed and it has not."""
        second = self._second
        if second is None or not isinstance(outcome, Failure):
            return None
        if outcome.kind in (FailureKind.DEADLINE, FailureKind.SLOW_CLIENT):
            return None
        self._second = None
        return second

    def release(self, loser: Placed, outcome: Outcome) -> None:
        """Releases the first request's reservation, after the second one won."""
        self._hedging.release(loser, outcome)

    def close(self) -> None:
        """Stops the timer, and the second request where it did not win."""
        self._timer.cancel()
        self._stop_second()

    def _start(self) -> None:
        if self._first.outcome is not None:
            return
        placed = self._hedging.place()
        if placed is None:
            return
        self._second = self._open_on(placed)
        if self._second is None:
            self._hedging.release(placed, None)
        else:
            self._second.flow.races(self._second_won)

    def _first_won(self) -> None:
        self._timer.cancel()
        self._stop_second()

    def _second_won(self) -> None:
        self._first.abandon(Failure(FailureKind.OVERTAKEN, "another worker was faster", "OVERTAKEN"))

    def _stop_second(self) -> None:
        if self._second is not None:
            second, self._second = self._second, None
            second.leave()
            self._hedging.release(second.placed, second.flow.outcome)
