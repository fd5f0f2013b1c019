"""What goes wrong in a sim engine on demand. It decides only; the engine performs it."""

import random
from dataclasses import dataclass
from enum import Enum

from services.kit.settings.engines.sim import SimSettings
from services.worker.engines.sim.request import Request


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """What is to go wrong from the moment it is set. Shares are of new requests, 0 to 1; counts are of all tokens.

    `hang_after_tokens` and `die_after_tokens` are None for never and 0 for at once; a `hang_s` of 0 is for ever.
    """

    fail_share: float = 0.0
    refuse_share: float = 0.0
    garbage_share: float = 0.0
    slow_factor: float = 1.0
    hang_after_tokens: int | None = None
    hang_s: float = 0.0
    die_after_tokens: int | None = None
    seed: int = 0


class Strike(Enum):
    """What happens to the whole engine."""

    HANG = "hang"
    DIE = "die"


class Faults:
    """The same plan and worker give the same faults, in the order in which requests come."""

    def __init__(self, plan: FaultPlan, worker_id: str) -> None:
        self._worker_id = worker_id
        self.failed = 0
        """Requests that ended with INTERNAL; whoever ends them counts them."""
        self.refused = 0
        self.garbled = 0
        self.hangs = 0
        self.set(plan, 0)

    def __repr__(self) -> str:
        return f"Faults({self.plan})"

    def set(self, plan: FaultPlan, tokens: int) -> None:
        """Replaces the plan, with so many tokens generated until now."""
        self.plan = plan
        # Workers with one seed must not fail alike, or a retry would meet the same fault.
        self._rng = random.Random(f"{plan.seed} {self._worker_id}")  # noqa: S311 - no secret
        self._hangs_at = None if plan.hang_after_tokens is None else tokens + plan.hang_after_tokens
        self._dies_at = None if plan.die_after_tokens is None else tokens + plan.die_after_tokens

    def refuses(self) -> bool:
        """Whether the request that just came is refused."""
        refused = self._hits(self.plan.refuse_share)
        self.refused += refused
        return refused

    def doom(self, request: Request) -> None:
        """Lets a share of the requests fail, at any place from before their first token to before their last."""
        if self._hits(self.plan.fail_share):
            request.fails = True
            request.end = self._rng.randrange(request.index, request.end)
        if self._hits(self.plan.garbage_share):
            request.garbled = True
            self.garbled += 1

    def _hits(self, share: float) -> bool:
        return bool(share) and self._rng.random() < share

    def strike(self, tokens: int) -> Strike | None:
        """What befalls the engine, with so many tokens generated in all; it says so once."""
        if self._dies_at is not None and tokens >= self._dies_at:
            self._dies_at = None
            return Strike.DIE
        if self._hangs_at is not None and tokens >= self._hangs_at:
            self._hangs_at = None
            self.hangs += 1
            return Strike.HANG
        return None


def plan_of(settings: SimSettings) -> FaultPlan:
    """What the settings ask for from the start on; there 0 tokens stand for never."""
    return FaultPlan(
        fail_share=settings.fail_share,
        refuse_share=settings.refuse_share,
        garbage_share=settings.garbage_share,
        slow_factor=settings.slow_factor,
        hang_after_tokens=settings.hang_after_tokens or None,
        hang_s=settings.hang_s,
        die_after_tokens=settings.die_after_tokens or None,
        seed=settings.fault_seed,
    )
