"""Where a hedged request may go besides its first worker, within the hedges' own budget."""

from dataclasses import dataclass, replace

from services.kit.clock import Now
from services.router.case import Case, Placed
from services.router.core.budget import RetryBudget
from services.router.core.pick import Refusal
from services.router.placing import Placing


@dataclass(frozen=True, slots=True)
class Hedged:
    """See ports.Hedging."""

    after_s: float
    case: Case
    first: Placed
    placing: Placing
    budget: RetryBudget
    now: Now

    def place(self) -> Placed | None:
        """See ports.Hedging."""
        elsewhere = replace(self.case, failed_on={self.first.worker.worker_id: self.first.epoch})
        if not self.budget.retry(self.now()):
            return None
        found = self.placing.place(elsewhere)
        return None if isinstance(found, Refusal) else found

    def release(self, placed: Placed) -> None:
        """See ports.Hedging."""
        self.placing.release(placed, finished=None)
