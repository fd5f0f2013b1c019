"""What goes wrong in a sim engine on demand. It decides only; the engine performs it."""

import random

from services.kit.settings.engines.sim import SimSettings
from services.worker.engines.sim.request import Request


class Faults:
    """The same settings and worker give the same faults, in the order in which requests come."""

    def __init__(self, settings: SimSettings, worker_id: str) -> None:
        self._share = settings.fail_share
        self._hang_after_tokens = settings.hang_after_tokens
        # Workers with one seed must not fail alike, or a retry would meet the same fault.
        self._rng = random.Random(f"{settings.fault_seed} {worker_id}")  # noqa: S311 - no secret

    def __repr__(self) -> str:
        return f"Faults(fail_share={self._share} hang_after_tokens={self._hang_after_tokens})"

    def doom(self, request: Request) -> None:
        """Lets a share of the requests fail, at any place from before their first token to before their last."""
        if self._share and self._rng.random() < self._share:
            request.fails = True
            request.end = self._rng.randrange(request.index, request.end)

    def hangs(self, tokens: int) -> bool:
        """Whether it is to hang, with so many tokens generated in all; it says so once."""
        if not self._hang_after_tokens or tokens < self._hang_after_tokens:
            return False
        self._hang_after_tokens = 0
        return True
