"""A circuit breaker for one worker. Time is an argument.

Closed lets requests through and counts failures in a row; at the limit it opens. Open lets none through until its time
is over; then it is half open and lets one through, whose end closes it or opens it again, for twice as long.
"""

from dataclasses import dataclass
from enum import Enum


class BreakerState(Enum):
    """Whether requests get through."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half open"


class Event(Enum):
    """What happens to a breaker."""

    FAILED_TOO_OFTEN = "failed too often"
    TIME_IS_OVER = "time is over"
    PROBE_FAILED = "probe failed"
    SUCCEEDED = "succeeded"


TRANSITIONS = {
    (BreakerState.CLOSED, Event.FAILED_TOO_OFTEN): BreakerState.OPEN,
    (BreakerState.OPEN, Event.TIME_IS_OVER): BreakerState.HALF_OPEN,
    (BreakerState.HALF_OPEN, Event.PROBE_FAILED): BreakerState.OPEN,
    (BreakerState.HALF_OPEN, Event.SUCCEEDED): BreakerState.CLOSED,
    (BreakerState.OPEN, Event.SUCCEEDED): BreakerState.CLOSED,
}


@dataclass(frozen=True, slots=True)
class BreakerLimits:
    """Failures in a row that open it, how long it stays open at first and at most."""

    failures: int = 5
    open_s: float = 1.0
    longest_open_s: float = 30.0


class Breaker:
    """One worker's breaker. Only failures that are the worker's count; being full or a wrong request are not."""

    def __init__(self, limits: BreakerLimits) -> None:
        self._limits = limits
        self.state = BreakerState.CLOSED
        self._failures = 0
        self._open_s = limits.open_s
        self._until_s = 0.0
        self._probing = False
        self._probe_s = 0.0

    def __repr__(self) -> str:
        return f"Breaker({self.state.value} failures={self._failures})"

    def lets_through(self, now_s: float) -> bool:
        """Whether a request may go to the worker; asking changes nothing but an open state whose time is over."""
        if self.state is BreakerState.OPEN and now_s >= self._until_s:
            self._to(Event.TIME_IS_OVER)
            self._probing = False
        if self.state is BreakerState.HALF_OPEN:
            # A probe that has proved nothing for so long makes way for another.
            return not self._probing or now_s - self._probe_s >= self._limits.longest_open_s
        return self.state is BreakerState.CLOSED

    def placed(self, now_s: float) -> None:
        """A request went to the worker; half open, it is the probe."""
        self._probing, self._probe_s = self.state is BreakerState.HALF_OPEN, now_s

    def succeeded(self) -> None:
        """An answer's token came, or the worker came back as a new process."""
        self._failures, self._probing, self._open_s = 0, False, self._limits.open_s
        if self.state is not BreakerState.CLOSED:
            self._to(Event.SUCCEEDED)

    def neither(self) -> None:
        """The request ended by no doing of the worker: a probe proved nothing."""
        self._probing = False

    def failed(self, now_s: float) -> None:
        """An answer failed on the worker."""
        self._failures += 1
        if self.state is BreakerState.HALF_OPEN:
            self._open_s = min(self._limits.longest_open_s, 2 * self._open_s)
            self._open(Event.PROBE_FAILED, now_s)
        elif self.state is BreakerState.CLOSED and self._failures >= self._limits.failures:
            self._open(Event.FAILED_TOO_OFTEN, now_s)

    def _open(self, event: Event, now_s: float) -> None:
        self._until_s = now_s + self._open_s
        self._probing = False
        self._to(event)

    def _to(self, event: Event) -> None:
        self.state = TRANSITIONS[self.state, event]
