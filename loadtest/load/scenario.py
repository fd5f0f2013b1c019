"""What a run does, as plain data: it stands in results.json, so that anybody can do it again."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from loadtest.load import schedule
from loadtest.load.collect import Objectives
from loadtest.load.prompts import Pool, synthetic
from loadtest.load.record import Request


class Arrivals(StrEnum):
    """How requests arrive."""

    CONSTANT = "constant"
    POISSON = "poisson"
    BURST = "burst"


@dataclass(frozen=True, slots=True)
class Scenario:
    """An open loop at stated rates, or with `users` a closed one.

    `spread` varies the tokens asked for and the prompt's length evenly by that share around the stated ones.
    """

    transport: str = "grpc"
    model: str = ""
    arrivals: Arrivals = Arrivals.POISSON
    phases: tuple[schedule.Phase, ...] = (schedule.Phase(10.0, 30.0, "1: 10/s"),)
    users: int = 0
    prompt_tokens: int = 128
    shared_tokens: int = 0
    max_tokens: int = 64
    spread: float = 0.0
    sessions: int = 0
    seed: int = 1
    objectives: Objectives = field(default_factory=Objectives)
    drain_s: float = 60.0

    @property
    def length_s(self) -> float:
        """From the first request to the last."""
        return sum(phase.length_s for phase in self.phases)

    @property
    def expected(self) -> int:
        """Requests, on average."""
        return round(sum(phase.rate_per_s * phase.length_s for phase in self.phases))

    def requests(self) -> Iterator[Request]:
        """Every request in order of its time; the same seed gives the same ones."""
        rng = random.Random(self.seed)
        prompt = synthetic(Pool(self.seed), self.shared_tokens, self.seed)
        for number, (due_s, group) in enumerate(self._times(random.Random(self.seed + 1))):
            share = 1.0 + self.spread * rng.uniform(-1.0, 1.0)
            prompt_tokens = max(1, round(self.prompt_tokens * share))
            messages = prompt(number, max(prompt_tokens, self.shared_tokens + 1))
            max_tokens = max(1, round(self.max_tokens * (1.0 + self.spread * rng.uniform(-1.0, 1.0))))
            session = f"session-{rng.randrange(self.sessions)}" if self.sessions else ""
            yield Request(number, due_s, messages, max_tokens, prompt_tokens, group, session)

    def _times(self, rng: random.Random) -> Iterator[tuple[float, str]]:
        steps = list(self.phases)
        if self.users:
            # A closed loop takes the next request when it wants it, so these have no times of their own.
            return iter((0.0, f"{self.users} users") for _ in iter(int, 1))
        match self.arrivals:
            case Arrivals.CONSTANT:
                return schedule.constant(steps)
            case Arrivals.POISSON:
                return schedule.poisson(steps, rng)
            case Arrivals.BURST:
                return schedule.burst(steps)
