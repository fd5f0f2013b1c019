"""How long a server behind an engine is left alone after it has said that it is full. It asks and refuses nothing."""

from services.kit.clock import Now
from services.kit.errors import Exhausted

# How long where the server does not say itself, and at most.
HOLD_S = 1.0
HOLD_LIMIT_S = 60.0


class Hold:
    """Meanwhile the engine refuses requests itself, and its load says that there is no room, places to wait included.

    So routers ask elsewhere or let requests wait, where they would ask the same server again ten times a second.
    `name` is what refuses, in what clients are told; the clock gives seconds.
    """

    def __init__(self, name: str, reason: str, max_running: int, max_waiting: int, now: Now) -> None:
        self._name = name
        self._reason = reason
        self._max_running = max_running
        self._max_waiting = max_waiting
        self._now = now
        self._until_s = 0.0

    def __repr__(self) -> str:
        return f"Hold({self._name} left_s={self.left_s:.1f})"

    @property
    def left_s(self) -> float:
        """Seconds for which it is still left alone; 0 where it is not."""
        return max(0.0, self._until_s - self._now())

    def refused(self, refusal: Exhausted) -> None:
        """The server said so; for how long is its own word, within reason."""
        hold_s = min(refusal.retry_delay_s or HOLD_S, HOLD_LIMIT_S)
        self._until_s = max(self._until_s, self._now() + hold_s)

    def error(self) -> Exhausted:
        """What a request is told that comes meanwhile."""
        message = f"{self._name} is full and is left alone for {self.left_s:.1f} s; ask another worker, or later"
        return Exhausted(message, reason=self._reason, retry_delay_s=self.left_s)

    def fill(self, running: int, waiting: int) -> tuple[int, int]:
        """What the load says of requests that run and wait."""
        if not self.left_s:
            return running, waiting
        return max(running, self._max_running), max(waiting, self._max_waiting)
