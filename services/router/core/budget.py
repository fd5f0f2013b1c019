"""How many retries are allowed: a share of recent requests, as in tower's retry budget. Time is an argument."""


class RetryBudget:
    """A bucket that each request fills by `share` and time fills by `per_s`; a retry takes one out of it.

    It holds at most `window_s` worth of what fills it by time, and starts full. At zero, failures go to the client:
    when everything fails, retries would only multiply the load.
    """

    def __init__(self, share: float, per_s: float, window_s: float) -> None:
        self._share = share
        self._per_s = per_s
        self._window_s = window_s
        self._requests = 0.0
        self._balance = per_s * window_s
        self._seen_s: float | None = None

    def __repr__(self) -> str:
        return f"RetryBudget({self._balance:.1f})"

    def request(self, now_s: float) -> None:
        """A request arrived."""
        self._advance(now_s)
        self._requests += 1
        self._balance = min(self._limit, self._balance + self._share)

    def retry(self, now_s: float) -> bool:
        """Takes one retry; False where none is left."""
        self._advance(now_s)
        if self._balance < 1:
            return False
        self._balance -= 1
        return True

    @property
    def _limit(self) -> float:
        return self._per_s * self._window_s + self._share * self._requests

    def _advance(self, now_s: float) -> None:
        if self._seen_s is not None:
            passed_s = max(0.0, now_s - self._seen_s)
            # Requests older than the window count no more; they fade rather than leave all at once.
            self._requests *= max(0.0, 1.0 - passed_s / self._window_s)
            self._balance = min(self._limit, self._balance + self._per_s * passed_s)
        self._seen_s = now_s
