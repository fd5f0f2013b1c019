"""Whether one set of runs is better than another, with how sure that is. Ratios are B over A."""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from loadtest.load.histogram import Histogram

RESAMPLES = 2000
SURE = 0.95
RUNS_FOR_BOOTSTRAP = 3
_Z = 1.96
SAME = 0.02
"""A ratio this close to 1 is called the same, however sure it is."""

Value = Callable[[Mapping[str, Any]], float | None]


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure of a run. `lower_is_better` says which way is good; `quantile` is set for those of a histogram."""

    name: str
    of: Value
    lower_is_better: bool = True
    histogram: str = ""
    quantile: float = 0.0


def _time(key: str, percent: float) -> Value:
    column = f"p{percent:g}_ms"

    def value(run: Mapping[str, Any]) -> float | None:
        one = run["whole"]["times"].get(key)
        return None if one is None else float(one[column])

    return value


def _whole(key: str) -> Value:
    return lambda run: float(run["whole"][key])


def _cost(run: Mapping[str, Any]) -> float | None:
    """CPU of the mesh's processes for a token, where the run saw them; workers' engines count too."""
    found = [cost for name, cost in run["mesh"]["us_per_token"].items() if name != "up"]
    return sum(found) if found else None


METRICS = (
    *(
        Metric(f"{key}.p{percent:g}", _time(key, percent), histogram=key, quantile=percent)
        for key in ("ttft", "itl", "tpot", "e2e")
        for percent in (50.0, 99.0)
    ),
    Metric("tokens_per_s", _whole("tokens_per_s"), lower_is_better=False),
    Metric("goodput_per_s", _whole("goodput_per_s"), lower_is_better=False),
    Metric("error_share", _whole("error_share")),
    Metric("lost_tokens", _whole("lost_tokens")),
    Metric("repeated_tokens", _whole("repeated_tokens")),
    Metric("mesh_us_per_token", _cost),
)


@dataclass(frozen=True, slots=True)
class Change:
    """One figure of both sets: medians over their runs, their ratio, and the interval that holds it (95 %)."""

    metric: Metric
    a: float
    b: float
    ratio: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """`better` or `worse` where the interval excludes the same, `same` where it is narrow, else `unsure`."""
        if self.a == self.b:
            return "same"
        if not math.isfinite(self.ratio) or not self.a:
            return "worse" if (self.b > self.a) == self.metric.lower_is_better else "better"
        if self.low > 1.0 + SAME:
            return "worse" if self.metric.lower_is_better else "better"
        if self.high < 1.0 - SAME:
            return "better" if self.metric.lower_is_better else "worse"
        return "same" if self.low >= 1.0 - SAME and self.high <= 1.0 + SAME else "unsure"


def compare(a: Sequence[Mapping[str, Any]], b: Sequence[Mapping[str, Any]], seed: int = 1) -> list[Change]:
    """Every figure that both sets have.

    With three runs or more on each side the interval is a bootstrap over runs. With fewer it comes from the ranks
    within the runs, which takes each answer for independent: it is then narrower than the truth, and the command
    says so.
    """
    return [change for metric in METRICS if (change := _change(metric, a, b, random.Random(seed))) is not None]


def _change(
    metric: Metric, a: Sequence[Mapping[str, Any]], b: Sequence[Mapping[str, Any]], rng: random.Random
) -> Change | None:
    first = [value for run in a if (value := metric.of(run)) is not None]
    second = [value for run in b if (value := metric.of(run)) is not None]
    if not first or not second:
        return None
    was, now = median(first), median(second)
    ratio = now / was if was else (1.0 if now == was else math.inf)
    if min(len(first), len(second)) >= RUNS_FOR_BOOTSTRAP:
        low, high = _bootstrap(first, second, rng)
    elif metric.histogram:
        low, high = _by_ranks(metric, a, b)
    else:
        # One run says nothing of how much such a figure varies.
        low, high = min(1.0, ratio), max(1.0, ratio)
    return Change(metric, was, now, ratio, low, high)


def _bootstrap(a: Sequence[float], b: Sequence[float], rng: random.Random) -> tuple[float, float]:
    ratios = []
    for _ in range(RESAMPLES):
        was, now = median(rng.choices(a, k=len(a))), median(rng.choices(b, k=len(b)))
        ratios.append(now / was if was else (1.0 if now == was else math.inf))
    ratios.sort()
    edge = (1.0 - SURE) / 2.0
    return ratios[int(edge * RESAMPLES)], ratios[min(RESAMPLES - 1, int((1.0 - edge) * RESAMPLES))]


def _by_ranks(metric: Metric, a: Sequence[Mapping[str, Any]], b: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Between the extremes of what each quantile may be, from the binomial spread of its rank."""
    (a_low, a_high), (b_low, b_high) = _spread(metric, a), _spread(metric, b)
    return b_low / a_high if a_high else 1.0, b_high / a_low if a_low else math.inf


def _spread(metric: Metric, runs: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    merged = Histogram()
    for run in runs:
        if one := run["whole"]["times"].get(metric.histogram):
            merged.add(Histogram.decoded(one["hdr"]))
    share, count = metric.quantile / 100.0, merged.count
    spread = _Z * math.sqrt(share * (1.0 - share) / count) if count else 0.0
    low = merged.quantile_s(max(0.0, share - spread) * 100.0)
    return low, merged.quantile_s(min(1.0, share + spread) * 100.0)


class WrongGate(ValueError):
    """A gate that names no figure, or no limit."""


def gate(changes: Sequence[Change], text: str) -> str:
    """Whether B keeps a limit such as `ttft.p99<=1.05` (ratios): empty, or why not. Raises WrongGate.

    It fails only where the interval lies beyond the limit, so that noise alone stops nobody.
    """
    name, sign, limit_text = text.partition("<=" if "<=" in text else ">=")
    found = {change.metric.name: change for change in changes}
    try:
        limit = float(limit_text)
    except ValueError:
        sign = ""
    if not sign:
        raise WrongGate(f"{text!r} is no FIGURE<=RATIO or FIGURE>=RATIO, such as ttft.p99<=1.05")
    if name not in found:
        raise WrongGate(f"{name!r} is none of the figures that both runs have: {', '.join(sorted(found))}")
    change = found[name]
    if change.a:
        beyond = change.low > limit if sign == "<=" else change.high < limit
    else:
        # There is no ratio to nothing: something where there was nothing is beyond every limit.
        beyond = sign == "<=" and change.b > 0.0
    if not beyond:
        return ""
    return (
        f"{name} is {change.ratio:.3f} times what it was ({change.low:.3f} to {change.high:.3f}), and {text} was asked"
    )
