"""How fast a worker is, learned from what it did. Time is an argument."""

from dataclasses import dataclass

HALF_LIFE_S = 60.0
"""Evidence loses half of its weight in this time, so that a worker that was slow once is tried again."""
PRIOR_ANSWERS = 2.0
"""Answers that weigh as much as what is known of the fleet."""
# Share of the newest report in the mean step time.
_NEWEST_STEP = 1 / 8
# A worker's prefill is taken to be at most so many times slower or faster than the fleet's.
_FACTOR_LIMIT = 1000.0


@dataclass(frozen=True, slots=True)
class Speed:
    """Seconds to a first token: `first_s`, and `token_s` for each prompt token that is to be prefilled until then.

    `spread` is the variance of the numbers of tokens that this was learned from.
    """

    first_s: float
    token_s: float
    spread: float = 1e5


@dataclass(slots=True)
class Rates:
    """Evidence of the speed of one worker, or of all of a model's, and the mean time of a step.

    The two numbers of a `Speed` are a least-squares line through (tokens, seconds). A plain ratio would not do: the
    time of a step counts for more where prompts come one by one, so that busy workers would seem fast and get busier.
    """

    speed: Speed | None = None
    count: float = 0.0
    tokens: float = 0.0
    seconds: float = 0.0
    squares: float = 0.0
    products: float = 0.0
    seen_s: float = 0.0
    step_time_s: float = 0.0

    def prefilled(self, tokens: float, elapsed_s: float, now_s: float, prior: Speed) -> None:
        """So many prompt tokens, those that were ahead included, took so long until a first token came."""
        if tokens <= 0 or elapsed_s <= 0:
            return
        weight = self.weight(now_s)
        self.count = self.count * weight + 1
        self.tokens = self.tokens * weight + tokens
        self.seconds = self.seconds * weight + elapsed_s
        self.squares = self.squares * weight + tokens * tokens
        self.products = self.products * weight + tokens * elapsed_s
        self.seen_s = now_s
        self.speed = self._line(prior)

    def _line(self, prior: Speed) -> Speed:
        """Ridge regression: the prior counts as `PRIOR_ANSWERS` answers that lie on its line."""
        variance = max(0.0, self.squares - self.tokens * self.tokens / self.count)
        covariance = self.products - self.tokens * self.seconds / self.count
        ridge = PRIOR_ANSWERS * prior.spread
        token_s = (covariance + ridge * prior.token_s) / (variance + ridge)
        rest_s = self.seconds - token_s * self.tokens + PRIOR_ANSWERS * prior.first_s
        first_s = rest_s / (self.count + PRIOR_ANSWERS)
        if first_s < 0:
            # Faster than the prior, and too little variance to tell by how much a token: a line through the origin.
            usual = PRIOR_ANSWERS * self.tokens / self.count
            first_s, token_s = 0.0, (self.seconds + usual * prior.token_s) / (self.tokens + usual)
        token_s = min(prior.token_s * _FACTOR_LIMIT, max(prior.token_s / _FACTOR_LIMIT, token_s))
        return Speed(first_s, token_s, max(1.0, variance / self.count))

    def expected(self, prior: Speed, now_s: float) -> tuple[float, float]:
        """A speed's two numbers now: what was learned, fading towards what is known of others."""
        speed, first_s, token_s = self.speed, prior.first_s, prior.token_s
        if speed is None:
            return first_s, token_s
        weight = 0.5 ** ((now_s - self.seen_s) / HALF_LIFE_S)
        return first_s + (speed.first_s - first_s) * weight, token_s + (speed.token_s - token_s) * weight

    def stepped(self, step_time_s: float) -> None:
        """The worker reported the mean time of its latest steps; 0 says nothing."""
        if step_time_s > 0:
            known = self.step_time_s or step_time_s
            self.step_time_s = known + (step_time_s - known) * _NEWEST_STEP

    def weight(self, now_s: float) -> float:
        """What is left of the evidence's weight, from 0 to 1."""
        return float(0.5 ** ((now_s - self.seen_s) / HALF_LIFE_S)) if self.count else 0.0
