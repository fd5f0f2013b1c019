"""Where a hedged request may go besides its first worker, within the hedges' own budget."""

from dataclasses import dataclass, replace

from services.kit.clock import Now
from services.router.case import Case, Placed
from services.router.core.budget import RetryBudget
from services.router.core.pick import Refusal
from services.router.core.recover import Outcome
from services.router.placing import Placing
from services.router.waiting import WaitingRoom


@dataclass(frozen=True, slots=True)
class Hedged:
    """See ports.Hedging."""

    after_s: float
    case: Case
    first: Placed
    placing: Placing
    room: WaitingRoom
    budget: RetryBudget
    now: Now

    def place(self) -> Placed | None:
        """See ports.Hedging."""
        if not self.room.is_empty(self.case.chat.model):
            # Whoever waits has none yet; nobody gets a second worker before that.
            return None
        elsewhere = replace(self.case, failed_on={self.first.worker.worker_id: self.first.epoch})
        found = self.placing.place(elsewhere)
        if isinstance(found, Refusal):
            return None
        if not self.budget.retry(self.now()):
            self.placing.release(found, None)
            return None
        return found

    def release(self, placed: Placed, outcome: Outcome | None) -> None:
        """See ports.Hedging."""
        self.placing.release(placed, outcome)
