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
    failed_on: dict[str, int] = field(default_factory=dict)
    """The epoch of each worker's link on which the request failed: a worker that came back may be tried again."""

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
