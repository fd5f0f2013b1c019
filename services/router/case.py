"""One request while it looks for a worker: what it asks for, what it has been through, where it failed."""

from dataclasses import dataclass, field

from services.router.core import placer
from services.router.core.admit import Ticket
from services.router.core.chat import Chat, Priority
from services.router.core.recover import Failure, History
from services.router.core.worker import Worker


@dataclass(slots=True)
class Case:
    """`need` is what its prompt takes; `fingerprint` is set once the answer has to be resumed.

    `ticket` is the place that it had in the queue, until the answer is over and the ticket is settled.
    """

    chat: Chat
    deadline_s: float
    need: placer.Need
    history: History = field(default_factory=History)
    fingerprint: str = ""
    last: Failure | None = None
    ticket: Ticket | None = None
    retry_at_s: float | None = None
    """When the worker that `last` came from wants to be asked again; None where it said nothing of it."""
    failed_on: dict[str, int] = field(default_factory=dict)
    """The epoch of each worker's link on which the request failed: a worker that came back may be tried again."""

    def failed(self, failure: Failure, now_s: float) -> None:
        """Its worker failed it, or was full."""
        delay_s = failure.retry_delay_s
        self.last, self.retry_at_s = failure, None if delay_s is None else now_s + delay_s

    def told_s(self, now_s: float) -> float | None:
        """How much longer that worker wants to be left alone."""
        return None if self.retry_at_s is None else max(0.0, self.retry_at_s - now_s)

    @property
    def recovers(self) -> bool:
        """Whether it had a worker that failed it; one that was merely full has not."""
        return self.history.failures > 0

    @property
    def priority(self) -> Priority:
        """Its class in the queue."""
        return Priority.RECOVERING if self.recovers else self.chat.priority


@dataclass(frozen=True, slots=True)
class Placed:
    """A request on a worker, its load reserved, and the epoch of the worker's link at that moment."""

    core: placer.Placed
    epoch: int

    @property
    def worker(self) -> Worker:
        """The worker's row."""
        return self.core.worker
