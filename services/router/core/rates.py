"""How fast a worker is, learned from what it did. Time is an argument."""

from dataclasses import dataclass

# Evidence loses half of its weight in this time, so that a worker that was slow once is tried again.
HALF_LIFE_S = 60.0
# Share of the newest report in the mean step time.
_NEWEST_STEP = 1 / 8


@dataclass(slots=True)
class Rates:
    """Evidence of one worker's speed: tokens prefilled, the seconds that took, and the mean time of a step.

    Both sums fade together: their ratio is the rate, and their size says how far it can be trusted.
    """

    tokens: float = 0.0
    seconds: float = 0.0
    seen_s: float = 0.0
    step_time_s: float = 0.0

    def prefilled(self, tokens: float, elapsed_s: float, now_s: float) -> None:
        """So many prompt tokens, those that were ahead included, took so long until a first token came."""
        if tokens <= 0 or elapsed_s <= 0:
            return
        weight = self.weight(now_s)
        self.tokens = self.tokens * weight + tokens
        self.seconds = self.seconds * weight + elapsed_s
        self.seen_s = now_s

    def stepped(self, step_time_s: float) -> None:
        """The worker reported the mean time of its latest steps; 0 says nothing."""
        if step_time_s > 0:
            known = self.step_time_s or step_time_s
            self.step_time_s = known + (step_time_s - known) * _NEWEST_STEP

    def weight(self, now_s: float) -> float:
        """What is left of the evidence's weight, from 0 to 1."""
        if not self.seconds:
            return 0.0
        return float(0.5 ** ((now_s - self.seen_s) / HALF_LIFE_S))
