"""Plots of a run as SVG text, from results.json alone."""

import io
import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("svg")

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from loadtest.load.histogram import Histogram

WIDTH_IN, HEIGHT_IN = 8.6, 3.0
BLUE, ORANGE, GREEN, RED, GREY = "#2f6fb3", "#d9822b", "#3a9a5b", "#c23b3b", "#8a8f98"
_STYLE: Any = {
    # Names of workers and models are text, not formulas.
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "weft",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#d8dbe0",
    "grid.linewidth": 0.6,
}
_PLAIN = FuncFormatter(lambda value, _: f"{value:g}")
"""Powers of ten as numbers: the usual form is a formula."""
Run = Mapping[str, Any]


def distributions(run: Run) -> str:
    """Latency by percentile, the last percents stretched: TTFT, ITL and whole answers."""
    with mpl.rc_context(_STYLE):
        figure = Figure((WIDTH_IN, HEIGHT_IN), layout="constrained")
        axes = figure.subplots(1, 3)
        for one, (key, title, color) in zip(
            axes, (("ttft", "TTFT", BLUE), ("itl", "ITL", ORANGE), ("e2e", "end to end", GREEN)), strict=True
        ):
            _percentiles(one, run, key, title, color)
        return _svg(figure)


def _percentiles(axes: Axes, run: Run, key: str, title: str, color: str) -> None:
    axes.set_title(title)
    axes.set_ylabel("ms")
    if found := run["whole"]["times"].get(key):
        points = list(Histogram.decoded(found["hdr"]).points())
        total, seen = sum(count for _, count in points), 0
        xs, ys = [], []
        for seconds, count in points:
            seen += count
            # 0 is the 0th percentile, 1 the 90th, 2 the 99th: how many nines.
            xs.append(-math.log10(max(1.0 - seen / total, 0.5 / total)))
            ys.append(seconds * 1e3)
        axes.step(xs, ys, color=color, where="pre")
    _from_zero(axes)
    axes.set_xticks((0.30103, 1.0, 2.0, 3.0), ["p50", "p90", "p99", "p99.9"])


def timeline(run: Run) -> str:
    """What arrived, what ended and what failed in each second, the queues, and what was done to the mesh."""
    slices, width_s = run["timeline"]["slices"], run["timeline"]["slice_s"]
    # A slice stands at its middle: it is of what happened around then.
    at = [(number + 0.5) * width_s for number in range(len(slices))]
    looks = run["mesh"]["looks"]
    rows = 4 if looks else 3
    with mpl.rc_context(_STYLE):
        figure = Figure((WIDTH_IN, rows * 0.75 * HEIGHT_IN), layout="constrained")
        axes = list(figure.subplots(rows, 1, sharex=True))
        for key, label, color in (("due", "due", GREY), ("ended", "ended", GREEN), ("failed", "failed", RED)):
            axes[0].plot(at, [one[key] / width_s for one in slices], color=color, label=label)
        axes[0].set_ylabel("answers/s")
        ends = [(number + 1) * width_s for number in range(len(slices))]
        axes[1].plot(ends, [one["in_flight"] for one in slices], color=BLUE, label="under way")
        axes[1].set_ylabel("answers")
        if looks:
            _queues(axes[2], looks)
        for one in axes[:-1]:
            _from_zero(one)
        _slice_times(axes[-1], at, slices)
        for one in axes:
            _legend(one)
        axes[-1].set_xlabel("seconds")
        axes[-1].set_xlim(0.0, max(run["elapsed_s"], len(slices) * width_s, 1.0))
        _moments(axes, run)
        return _svg(figure)


def _queues(axes: Axes, looks: Sequence[Mapping[str, Any]]) -> None:
    at = [look["at_s"] for look in looks]
    axes.plot(at, [look["queued"] for look in looks], color=RED, label="in the router's queue")
    waits = [sum(row[2] for row in look["workers"].values()) for look in looks]
    axes.plot(at, waits, color=ORANGE, label="waiting in workers")
    axes.set_ylabel("requests")


def _slice_times(axes: Axes, at: Sequence[float], slices: Sequence[Mapping[str, Any]]) -> None:
    """A slice in which nothing was timed has no point: a logarithm has no 0."""
    for key, label, color in (
        ("ttft_p50_ms", "TTFT p50", BLUE),
        ("ttft_p99_ms", "TTFT p99", ORANGE),
        ("longest_gap_ms", "longest gap", GREY),
    ):
        seen = [(at_s, one[key]) for at_s, one in zip(at, slices, strict=True) if one[key]]
        axes.plot([x for x, _ in seen], [y for _, y in seen], color=color, label=label, marker=".", markersize=3)
    axes.set_ylabel("ms")
    _logarithmic(axes)


def _moments(axes: Sequence[Axes], run: Run) -> None:
    """Where a phase begins, and where something was done to the mesh."""
    start_s = 0.0
    for phase in run["scenario"]["phases"] if len(run["scenario"]["phases"]) > 1 else ():
        for one in axes:
            one.axvline(start_s, color=GREY, linewidth=0.8)
        _word(axes[0], start_s, phase["group"], GREY)
        start_s += phase["length_s"]
    for happening in run["happenings"]:
        for one in axes:
            one.axvline(happening["at_s"], color=RED, linewidth=0.8, linestyle=":")
        _word(axes[0], happening["at_s"], f"{happening['what']} {happening['target']}", RED)


def _word(axes: Axes, at_s: float, text: str, color: str) -> None:
    where: Any = {"rotation": 90, "va": "top", "clip_on": True, "in_layout": False}
    axes.text(at_s, axes.get_ylim()[1], f"{text} ", color=color, fontsize=7, **where)


def workers(run: Run) -> str:
    """What each worker said of itself: answers that it ran and that waited in it. Empty where nobody looked."""
    looks = run["mesh"]["looks"]
    names = sorted({name for look in looks for name in look["workers"]})[:16]
    if not names:
        return ""
    with mpl.rc_context(_STYLE):
        figure = Figure((WIDTH_IN, HEIGHT_IN), layout="constrained")
        running, waiting = figure.subplots(1, 2, sharex=True)
        for name in names:
            seen = [(look["at_s"], look["workers"][name]) for look in looks if name in look["workers"]]
            at = [at_s for at_s, _ in seen]
            running.plot(at, [row[1] for _, row in seen], label=name, linewidth=1.0)
            waiting.plot(at, [row[2] for _, row in seen], linewidth=1.0)
        running.set_title("running on each worker")
        waiting.set_title("waiting in each worker")
        for axes in (running, waiting):
            axes.set_xlabel("seconds")
            _from_zero(axes)
        running.set_ylabel("requests")
        figure.legend(loc="outside lower center", frameon=False, fontsize=7, ncols=8)
        return _svg(figure)


def by_rate(groups: Sequence[tuple[float, Mapping[str, Any]]]) -> str:
    """Answers a second and TTFT against the rate that was offered; empty where there are fewer than two rates.

    Each run is a dot; a line goes through the middle of the runs of one rate.
    """
    points = sorted(groups, key=lambda pair: pair[0])
    if len({rate for rate, _ in points}) < 2:
        return ""
    rates = [rate for rate, _ in points]
    with mpl.rc_context(_STYLE):
        figure = Figure((WIDTH_IN, HEIGHT_IN), layout="constrained")
        left, right = figure.subplots(1, 2)
        left.plot(rates, rates, color=GREY, linestyle=":", label="offered")
        whole = [(rate, group["ok"] / group["sent"] * group["rate_per_s"]) for rate, group in points if group["sent"]]
        _dots(left, whole, BLUE, "answered whole")
        _dots(left, [(rate, group["goodput_per_s"]) for rate, group in points], GREEN, "good")
        left.set_ylabel("answers/s")
        _from_zero(left)
        for column, color, label in (("p50_ms", BLUE, "p50"), ("p99_ms", ORANGE, "p99")):
            timed = [(rate, group["times"]["ttft"][column]) for rate, group in points if "ttft" in group["times"]]
            _dots(right, timed, color, f"TTFT {label}")
        right.set_ylabel("ms")
        _logarithmic(right)
        for axes in (left, right):
            _legend(axes)
            axes.set_xlabel("offered requests/s")
        return _svg(figure)


def _dots(axes: Axes, points: Sequence[tuple[float, float]], color: str, label: str) -> None:
    axes.plot([x for x, _ in points], [y for _, y in points], ".", color=color, markersize=5)
    xs = sorted({x for x, _ in points})
    axes.plot(xs, [median(y for at, y in points if at == x) for x in xs], color=color, label=label, linewidth=1.0)


def by_users(groups: Sequence[tuple[float, Mapping[str, Any]]]) -> str:
    """Tokens a second, and the times, against users at once; empty where there are fewer than two numbers of them."""
    points = sorted(groups, key=lambda pair: pair[0])
    if len({users for users, _ in points}) < 2:
        return ""
    with mpl.rc_context(_STYLE):
        figure = Figure((WIDTH_IN, HEIGHT_IN), layout="constrained")
        axes = figure.subplots(1, 3)
        xs = [users for users, _ in points]
        axes[0].plot(xs, [group["tokens_per_s"] for _, group in points], color=BLUE, marker="o", markersize=3)
        axes[0].set_ylabel("tokens/s")
        for one, key in zip(axes[1:], ("ttft", "itl"), strict=True):
            for column, color, label in (("p50_ms", BLUE, "p50"), ("p99_ms", ORANGE, "p99")):
                found = [(users, group["times"][key][column]) for users, group in points if key in group["times"]]
                one.plot(
                    [x for x, _ in found], [y for _, y in found], color=color, marker="o", markersize=3, label=label
                )
            one.set_ylabel(f"{key.upper()}, ms")
            _legend(one)
        for one in axes:
            one.set_xlabel("users at once")
            one.set_xscale("log")
            one.set_xticks(xs, [f"{users:g}" for users in xs])
            one.set_xticks([], minor=True)
            _from_zero(one)
        return _svg(figure)


def queue_depths(runs: Sequence[tuple[str, Run]]) -> str:
    """Answers in the router's queue and waiting in workers, over the time of each run; empty where nobody looked."""
    if not any(run["mesh"]["looks"] for _, run in runs):
        return ""
    with mpl.rc_context(_STYLE):
        figure = Figure((WIDTH_IN, HEIGHT_IN), layout="constrained")
        queue, waiting = figure.subplots(1, 2, sharex=True)
        for name, run in runs:
            looks = run["mesh"]["looks"]
            at = [look["at_s"] for look in looks]
            queue.plot(at, [look["queued"] for look in looks], label=name, linewidth=1.0)
            waits = [sum(row[2] for row in look["workers"].values()) for look in looks]
            waiting.plot(at, waits, linewidth=1.0)
        queue.set_title("in the router's queue")
        waiting.set_title("waiting in the workers")
        for axes in (queue, waiting):
            axes.set_xlabel("seconds")
            _from_zero(axes)
        queue.set_ylabel("requests")
        figure.legend(loc="outside lower center", frameon=False, fontsize=7, ncols=8)
        return _svg(figure)


def _from_zero(axes: Axes) -> None:
    """From 0 to above the highest value: a line of zeros lies on the axis, and one of few on whole numbers."""
    top = max([1.0, *_heights(axes)])
    axes.set_ylim(-0.03 * top, 1.08 * top)
    if top < 10:
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))


def _logarithmic(axes: Axes) -> None:
    """Steps of 1, 2 and 5, of which at least two are in sight."""
    values = [y for y in _heights(axes) if y > 0.0] or [1.0]
    axes.set_yscale("log")
    low, high = 10.0 ** math.floor(math.log10(min(values))), 10.0 ** math.ceil(math.log10(max(values)))
    bottom = max(low * step for step in (1, 2, 5) if low * step <= min(values))
    top = min(high / step for step in (1, 2, 5) if high / step >= max(values))
    axes.set_ylim(0.95 * bottom, 1.05 * max(top, 2 * bottom))
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(_PLAIN)
    axes.yaxis.set_minor_locator(NullLocator())


def _heights(axes: Axes) -> list[float]:
    found = [np.asarray(line.get_ydata(), dtype=np.float64) for line in axes.lines]
    return [float(y) for ys in found for y in ys]


def _legend(axes: Axes) -> None:
    """Above the plot, where it hides no line."""
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.98), frameon=False, ncols=4, borderaxespad=0.0, fontsize=8)


def _svg(figure: Figure) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None}, transparent=True)
    text = out.getvalue()
    return text[text.index("<svg") :]
