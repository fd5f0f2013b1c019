"""Searches the highest rate that keeps the objectives: pure steps from what was measured to what to measure next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

GROW = 1.6
"""How much each rate is above the one before it while all hold."""
LOWEST = 1 / 32
"""How far below the first rate the search goes where that broke, as a share of it."""
SURE = 2
"""Runs of a rate that have to break before the capacity lies below it: one may have been unlucky."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What an overall run has to keep, at the 99th percentile of all answers; None does not matter. Times in s."""

    ttft_p99_s: float | None = None
    itl_p99_s: float | None = None
    error_share: float = 0.0

    def broken_by(self, whole: Mapping[str, Any]) -> str:
        """Why these figures do not keep it; empty where they do."""
        for key, limit_s in (("ttft", self.ttft_p99_s), ("itl", self.itl_p99_s)):
            got_ms = whole["times"].get(key, {}).get("p99_ms", 0.0)
            if limit_s is not None and got_ms > limit_s * 1e3:
                return f"p99 {key.upper()} {got_ms:.0f} ms over {limit_s * 1e3:g}"
        if whole["error_share"] > self.error_share:
            return f"{whole['error_share']:.2%} failed, over {self.error_share:.2%}"
        wrong = whole["lost_tokens"] + whole["repeated_tokens"] + whole["missing_tokens"]
        return f"{wrong} tokens lost or repeated" if wrong else ""


@dataclass(frozen=True, slots=True)
class Probe:
    """One run at one rate; `broken` says what it did not keep."""

    rate_per_s: float
    broken: str
    confirming: bool = False

    @property
    def holds(self) -> bool:
        """It kept everything."""
        return not self.broken


@dataclass(frozen=True, slots=True)
class Tally:
    """How many runs of a rate held, and how many broke."""

    held: int = 0
    broke: int = 0

    @property
    def runs(self) -> int:
        """All of them."""
        return self.held + self.broke


@dataclass(frozen=True, slots=True)
class Found:
    """Between `holds` and `breaks` lies the capacity: the highest rate whose confirming runs held, the lowest not.

    `holds` is 0 where not even the lowest rate held; `breaks` is None where everything held up to the highest rate
    that was looked at.
    """

    holds: float
    breaks: float | None


def tallies(probes: Sequence[Probe]) -> dict[float, Tally]:
    """The runs of each rate."""
    found: dict[float, Tally] = {}
    for probe in probes:
        one = found.get(probe.rate_per_s, Tally())
        found[probe.rate_per_s] = Tally(one.held + probe.holds, one.broke + (not probe.holds))
    return found


def next_rate(
    probes: Sequence[Probe], low: float, high: float, precision: float, confirm: int
) -> tuple[float, bool] | Found:
    """The rate to measure next and whether that confirms an earlier run of it, or the end.

    Rates grow until one breaks, or are halved until one holds; then the gap is halved until it is within `precision`
    (a share). The lowest rate that broke is measured until SURE runs of it broke, the best until `confirm` of it held.
    Most runs of a rate decide, and where as many broke as held, one more.
    """
    if not probes:
        return low, False
    runs = tallies(probes)
    for rate, tally in runs.items():
        if tally.held == tally.broke:
            return rate, True
    worst = min((rate for rate, tally in runs.items() if tally.broke > tally.held), default=None)
    best = max((rate for rate in runs if worst is None or rate < worst), default=0.0)
    if worst is None:
        if best < high:
            return min(high, best * GROW), False
    elif not best and worst > low * LOWEST:
        return worst / 2, False
    elif best and worst / best > 1.0 + precision:
        return (best * worst) ** 0.5, False
    elif runs[worst].broke < SURE:
        # Before the best is confirmed: where this holds after all, there is a better one.
        return worst, True
    if best and runs[best].held < confirm:
        return best, True
    return Found(best, worst)
