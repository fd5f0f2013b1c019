"""Plots of a run as SVG text, from results.json alone."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl

mpl.use("svg")

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

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
        axes.set_ylim(bottom=0)
    ticks = (0.0, 0.30103, 1.0, 2.0, 3.0)
    axes.set_xticks(ticks, ["0", "p50", "p90", "p99", "p99.9"])


def timeline(run: Run) -> str:
    """What arrived, what ended and what failed in each second, with what was done to the mesh."""
    slices, width_s = run["timeline"]["slices"], run["timeline"]["slice_s"]
    at = [number * width_s for number in range(len(slices))]
    with mpl.rc_context(_STYLE):
        figure = Figure((WIDTH_IN, 2.2 * HEIGHT_IN), layout="constrained")
        rates, flight, times = figure.subplots(3, 1, sharex=True)
        for key, label, color in (("due", "due", GREY), ("ended", "ended", GREEN), ("failed", "failed", RED)):
            rates.plot(at, [one[key] / width_s for one in slices], color=color, label=label)
        rates.set_ylabel("answers/s")
        rates.legend(loc="upper right", frameon=False, ncols=3)
        flight.plot(at, [one["in_flight"] for one in slices], color=BLUE, label="under way")
        looks = run["mesh"]["looks"]
        if looks:
            flight.plot(
                [one["at_s"] for one in looks], [one["queued"] for one in looks], color=RED, label="in the queue"
            )
        flight.set_ylabel("answers")
        flight.legend(loc="upper right", frameon=False, ncols=2)
        shown = [(second, one) for second, one in zip(at, slices, strict=True) if one["ttft_p50_ms"]]
        for key, label, color in (("ttft_p50_ms", "TTFT p50", BLUE), ("ttft_p99_ms", "TTFT p99", ORANGE)):
            times.plot([second for second, _ in shown], [one[key] for _, one in shown], color=color, label=label)
        times.plot(at, [one["longest_gap_ms"] for one in slices], color=GREY, label="longest gap", linewidth=0.9)
        times.set_ylabel("ms")
        times.set_yscale("symlog", linthresh=10)
        times.yaxis.set_major_formatter(_PLAIN)
        times.set_xlabel("seconds")
        times.legend(loc="upper right", frameon=False, ncols=3)
        for one in run["happenings"]:
            for axes in (rates, flight, times):
                axes.axvline(one["at_s"], color=RED, linewidth=0.8, linestyle=":")
            text = f" {one['what']} {one['target']}"
            rates.text(one["at_s"], rates.get_ylim()[1], text, rotation=90, va="top", color=RED, fontsize=7)
        return _svg(figure)


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
            axes.set_ylim(bottom=0)
        running.legend(loc="upper right", frameon=False, fontsize=7)
        return _svg(figure)


def by_rate(groups: Sequence[tuple[float, Mapping[str, Any]]]) -> str:
    """Answers a second and TTFT against the rate that was offered; empty where there are fewer than two rates."""
    points = sorted(groups, key=lambda pair: pair[0])
    if len({rate for rate, _ in points}) < 2:
        return ""
    rates = [rate for rate, _ in points]
    with mpl.rc_context(_STYLE):
        figure = Figure((WIDTH_IN, HEIGHT_IN), layout="constrained")
        left, right = figure.subplots(1, 2)
        whole = [group["ok"] / group["sent"] * rate if group["sent"] else 0.0 for rate, group in points]
        left.plot(rates, rates, color=GREY, linestyle=":", label="offered")
        left.plot(rates, whole, color=BLUE, marker="o", markersize=3, label="answered whole")
        left.plot(
            rates, [group["goodput_per_s"] for _, group in points], color=GREEN, marker="o", markersize=3, label="good"
        )
        left.set_ylabel("answers/s")
        left.legend(frameon=False)
        for column, color, label in (("p50_ms", BLUE, "p50"), ("p99_ms", ORANGE, "p99")):
            found = [(rate, group["times"]["ttft"][column]) for rate, group in points if "ttft" in group["times"]]
            right.plot([x for x, _ in found], [y for _, y in found], color=color, marker="o", markersize=3, label=label)
        right.set_title("TTFT")
        right.set_ylabel("ms")
        right.set_yscale("log")
        right.yaxis.set_major_formatter(_PLAIN)
        right.yaxis.set_minor_formatter(_PLAIN)
        right.legend(frameon=False)
        for axes in (left, right):
            axes.set_xlabel("offered requests/s")
        return _svg(figure)


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
        axes[0].set_title("tokens/s")
        for one, key in zip(axes[1:], ("ttft", "itl"), strict=True):
            for column, color, label in (("p50_ms", BLUE, "p50"), ("p99_ms", ORANGE, "p99")):
                found = [(users, group["times"][key][column]) for users, group in points if key in group["times"]]
                one.plot(
                    [x for x, _ in found], [y for _, y in found], color=color, marker="o", markersize=3, label=label
                )
            one.set_title(f"{key.upper()}, ms")
            one.legend(frameon=False)
        for one in axes:
            one.set_xlabel("users at once")
            one.set_xscale("log")
            one.set_xticks(xs, [f"{users:g}" for users in xs])
            one.set_xticks([], minor=True)
            one.set_ylim(bottom=0)
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
            axes.set_ylim(0, max(1.0, axes.get_ylim()[1]))
        queue.legend(loc="upper right", frameon=False, fontsize=7)
        return _svg(figure)


def _svg(figure: Figure) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None}, transparent=True)
    text = out.getvalue()
    return text[text.index("<svg") :]
