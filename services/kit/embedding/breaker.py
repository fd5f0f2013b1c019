"""When a replica that keeps failing is left alone. Pure: time is an argument."""

_FAILURES = 3
_OPEN_S = 1.0
_LONGEST_OPEN_S = 30.0


class Breaker:
    """Opens after three failures in a row, lets one call through when its time is over, and doubles that time.

    Only failures that are the replica's count: unavailable, internal, silent. Being full or a wrong request do not.
    """

    def __init__(self) -> None:
        self._failures = 0
        self._open_s = _OPEN_S
        self._until_s: float | None = None
        self._probe_until_s = 0.0

    def __repr__(self) -> str:
        return f"Breaker(failures={self._failures} open={self._until_s is not None})"

    def lets_through(self, now_s: float) -> bool:
        """Whether a call may go there now."""
        return self._until_s is None or (now_s >= self._until_s and now_s >= self._probe_until_s)

    def opens_in_s(self, now_s: float) -> float:
        """Seconds until it lets a call through; 0 where it does now."""
        return 0.0 if self._until_s is None else max(0.0, max(self._until_s, self._probe_until_s) - now_s)

    def began(self, now_s: float) -> None:
        """A call goes there; while it is open, that is the probe, and no other goes until it has ended."""
        if self._until_s is not None:
            self._probe_until_s = now_s + self._open_s

    def succeeded(self) -> None:
        """A call was answered: the past is forgotten."""
        self._failures, self._open_s, self._until_s, self._probe_until_s = 0, _OPEN_S, None, 0.0

    def failed(self, now_s: float) -> None:
        """A call failed by the replica's fault."""
        self._failures += 1
        if self._until_s is not None:
            self._open_s = min(self._open_s * 2, _LONGEST_OPEN_S)
            self._until_s = now_s + self._open_s
        elif self._failures >= _FAILURES:
            self._until_s = now_s + self._open_s
