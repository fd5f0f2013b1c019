"""Searches the highest rate that keeps the objectives: pure steps from what was measured to what to measure next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

GROW = 1.6
"""How much each rate is above the one before it while all hold."""


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
        if not whole["sent"]:
            return "nothing was sent in so short a run"
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
class Found:
    """Between `holds` and `breaks` lies the capacity: the highest rate whose confirming runs held, the lowest not.

    `breaks` is None where everything held up to the highest rate that was looked at.
    """

    holds: float
    breaks: float | None


def next_rate(
    probes: Sequence[Probe], low: float, high: float, precision: float, confirm: int
) -> tuple[float, bool] | Found:
    """The rate to measure next and whether to confirm an earlier one, or the end.

    Rates grow until one breaks, then the gap is halved until it is within `precision` (a share), and the best rate is
    measured until `confirm` runs of it held. A rate of which more runs broke than held counts as broken.
    """
    verdicts = _verdicts(probes)
    held = [rate for rate, holds in verdicts.items() if holds]
    broke = [rate for rate, holds in verdicts.items() if not holds]
    best = max((rate for rate in held if not broke or rate < min(broke)), default=0.0)
    worst = min(broke, default=high)
    if not probes:
        return low, False
    if not broke and best < high:
        return min(high, best * GROW), False
    if best == 0.0:
        # Even the lowest broke: look below it, a few times.
        return Found(0.0, worst) if worst <= low / 8 else (worst / 2, False)
    if broke and worst / best > 1.0 + precision:
        return (best * worst) ** 0.5, False
    if sum(probe.rate_per_s == best and probe.holds for probe in probes) < confirm:
        return best, True
    return Found(best, worst if broke else None)


def _verdicts(probes: Sequence[Probe]) -> dict[float, bool]:
    counts: dict[float, int] = {}
    for probe in probes:
        counts[probe.rate_per_s] = counts.get(probe.rate_per_s, 0) + (1 if probe.holds else -1)
    # As often broken as held is broken: a capacity is what can be relied on.
    return {rate: count > 0 for rate, count in counts.items()}
