"""`python -m loadtest.policy_study`: every placing policy on real traces, with simulated workers and the real core.

It starts no process and needs no GPU: time is simulated, so the figures depend on the seeds alone.
"""

import csv
import json
import os
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import repeat
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from loadtest.report import console as new_console
from loadtest.sim_fleet import Fleet
from loadtest.sim_worker import Gpu
from loadtest.traces import TraceRequest, azure, ideal_share, mooncake
from services.router.core.policies import POLICIES, Weights

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
WORKERS = 8
SLOW = 0.25
"""Speed of the slow worker, where there is one."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A trace and a fleet. `use` is the share of the fleet that the trace would take without any cached prefix."""

    name: str
    trace: str
    cache_blocks: int = 6000
    has_slow: bool = False
    use: float = 0.8

    @property
    def gpus(self) -> list[Gpu]:
        """The workers; the slow one is the last."""
        gpus = [Gpu(cache_blocks=self.cache_blocks)] * WORKERS
        return [*gpus[:-1], replace(gpus[-1], speed=SLOW)] if self.has_slow else gpus


SCENARIOS = (
    Scenario("Mooncake, 8 equal workers", "mooncake"),
    Scenario("Mooncake, one of 8 four times slower", "mooncake", has_slow=True),
    Scenario("Mooncake, one of 8 four times slower, a quarter of the load", "mooncake", has_slow=True, use=0.2),
    Scenario("Mooncake, 8 equal workers, half the cache", "mooncake", cache_blocks=3000),
    Scenario("Azure, 8 equal workers", "azure"),
    Scenario("Azure, one of 8 four times slower", "azure", has_slow=True),
)


@dataclass(frozen=True, slots=True)
class Figures:
    """One policy in one scenario, or the means over several seeds; times in seconds.

    `hit` is the share of prompt blocks that were cached, `spread` the requests of the worker with the most over the
    mean, and `slow` those of the last worker over the mean.
    """

    scenario: str
    policy: str
    seeds: str
    ttft_p50_s: float
    ttft_p99_s: float
    total_p50_s: float
    total_p99_s: float
    hit: float
    spread: float
    slow: float


Run = tuple[Figures, list[float]]
"""One run's figures and its times to first token, sorted."""


def requests_of(scenario: Scenario, data: Path, seed: int, limit: int | None = None) -> list[TraceRequest]:
    """The trace, with arrivals stretched or squeezed until it takes `use` of the fleet."""
    traces: dict[str, Callable[[], list[TraceRequest]]] = {
        "mooncake": lambda: mooncake(data / "mooncake_conversation.jsonl", random.Random(seed)),
        "azure": lambda: azure(data / "azure_2023_conversation.csv"),
    }
    requests = traces[scenario.trace]()[:limit]
    gpus = scenario.gpus
    demand_s = sum(gpus[0].request_s(one.prompt_tokens, one.output_tokens) for one in requests)
    factor = demand_s / (scenario.use * sum(gpu.speed for gpu in gpus)) / requests[-1].arrival_s
    return [replace(one, arrival_s=one.arrival_s * factor) for one in requests]


def run(scenario: Scenario, policy: str, seed: int, data: Path, limit: int | None = None) -> Run:
    """Plays the trace once."""
    fleet = Fleet(scenario.gpus, policy, Weights(), seed)
    fleet.run(requests_of(scenario, data, seed, limit))
    answered = fleet.answered
    ttft_s, total_s = sorted(one.ttft_s for one in answered), sorted(one.total_s for one in answered)
    counts = [sum(one.worker == number for one in answered) for number in range(WORKERS)]
    mean = len(answered) / WORKERS
    block = scenario.gpus[0].block_tokens
    hits = sum(-(-one.cached_tokens // block) for one in answered)
    figures = Figures(
        scenario.name,
        policy,
        str(seed),
        quantile(ttft_s, 0.5),
        quantile(ttft_s, 0.99),
        quantile(total_s, 0.5),
        quantile(total_s, 0.99),
        hits / sum(-(-one.prompt_tokens // block) for one in answered),
        max(counts) / mean,
        counts[-1] / mean,
    )
    return figures, ttft_s


def quantile(in_order: Sequence[float], share: float) -> float:
    """The value that this share of the others does not exceed."""
    return in_order[min(len(in_order) - 1, int(len(in_order) * share))]


def means(runs: Sequence[Figures]) -> Figures:
    """Means over the seeds of one policy in one scenario."""
    numbers: dict[str, Any] = {
        name: fmean(getattr(one, name) for one in runs)
        for name, kind in Figures.__annotations__.items()
        if kind is float
    }
    return replace(runs[0], seeds=" ".join(one.seeds for one in runs), **numbers)


def checks(found: Sequence[Figures], ideal: float) -> list[tuple[str, bool]]:
    """What the default policy is meant to bring, and whether it does."""
    of = {(one.scenario, one.policy): one for one in found}
    equal = SCENARIOS[0].name
    own, loaded = of[equal, "prefix_aware"], of[equal, "least_loaded"]
    halves = []
    for scenario in SCENARIOS[1:3]:
        mine, turns = of[scenario.name, "prefix_aware"].ttft_p99_s, of[scenario.name, "round_robin"].ttft_p99_s
        text = f"with a slow worker at {scenario.use:.0%} load, TTFT p99 {mine:.2f} s is at most half of round_robin's"
        halves.append((f"{text} {turns:,.1f} s", mine <= turns / 2))
    return [
        (f"prefix hits {own.hit:.1%} are at least 90% of the ideal {ideal:.1%}", own.hit >= 0.9 * ideal),
        (
            f"TTFT p99 {own.ttft_p99_s:.2f} s is no more than least_loaded's {loaded.ttft_p99_s:.2f} s",
            own.ttft_p99_s <= loaded.ttft_p99_s,
        ),
        *halves,
    ]


HEAD = ("policy", "TTFT p50", "TTFT p99", "answer p50", "answer p99", "prefix hits", "most / mean", "last / mean")


def cells(one: Figures) -> list[str]:
    """A row of the table."""
    times = [one.ttft_p50_s, one.ttft_p99_s, one.total_p50_s, one.total_p99_s]
    texts = [
        f"{value:.3f} s" if value < 1 else f"{value:,.2f} s" if value < 100 else f"{value:,.0f} s" for value in times
    ]
    return [one.policy, *texts, f"{one.hit:.1%}".replace("%", " %"), f"{one.spread:.2f}", f"{one.slow:.2f}"]


def markdown(found: Sequence[Figures], passed: Sequence[tuple[str, bool]]) -> str:
    """The figures as the page has them."""
    lines: list[str] = []
    for scenario in SCENARIOS:
        lines += [f"### {scenario.name}", "", f"| {' | '.join(HEAD)} |", "|---" + "|---:" * (len(HEAD) - 1) + "|"]
        lines += [f"| {' | '.join(cells(one))} |" for one in found if one.scenario == scenario.name]
        lines.append("")
    lines += [f"- {'Met' if ok else '**Not met**'}: {text}.".replace("%", " %") for text, ok in passed]
    return "\n".join(lines)


def plot(runs: Sequence[Run], ideals: dict[str, float], file: Path) -> None:
    """Draws who waits how long, and how much of the prompts was cached. Needs matplotlib."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(16, 4.6), layout="constrained")
    for axis, scenario in zip(axes, SCENARIOS[:2], strict=False):
        for policy in POLICIES:
            _, ttft_s = next(one for one in runs if (one[0].scenario, one[0].policy) == (scenario.name, policy))
            left = [1 - number / len(ttft_s) for number in range(len(ttft_s))]
            axis.plot(ttft_s, left, label=policy, linewidth=2.4 if policy == "prefix_aware" else 1.3)
        axis.axhline(0.01, color="0.6", linewidth=0.8, linestyle=":")
        axis.set(xscale="log", yscale="log", ylim=(1e-3, 1), title=scenario.name)
        axis.set(xlabel="time to first token, s", ylabel="share of requests that wait longer")
    axes[0].legend(fontsize=8)
    bars = axes[2]
    for number, scenario in enumerate((SCENARIOS[0], SCENARIOS[3])):
        hits = [next(r[0].hit for r in runs if (r[0].scenario, r[0].policy) == (scenario.name, p)) for p in POLICIES]
        at = [place + 0.4 * number for place in range(len(POLICIES))]
        bars.barh(at, [100 * hit for hit in hits], height=0.38, label=f"{scenario.cache_blocks:,} blocks a worker")
    for label, style in (("unlimited", "-"), ("6000", "--"), ("3000", ":")):
        bars.axvline(100 * ideals[label], color="0.3", linewidth=1, linestyle=style)
    bars.set(title="Mooncake: prompt blocks found in the cache", xlabel="% (lines: one cache for all, see the page)")
    bars.set_yticks([place + 0.2 for place in range(len(POLICIES))], list(POLICIES))
    bars.legend(fontsize=8)
    figure.savefig(file, dpi=110)


def study(data: Path, seeds: Sequence[int], jobs: int, console: Console) -> list[Run]:
    """Every policy in every scenario with every seed."""
    plan = [(scenario, policy, seed) for scenario in SCENARIOS for policy in POLICIES for seed in seeds]
    with ProcessPoolExecutor(jobs) as pool:
        found = pool.map(run, *zip(*plan, strict=True), repeat(data))
        return list(track(found, "simulating", len(plan), console=console))


def ideals_of(data: Path) -> dict[str, float]:
    """Hits of one cache for all workers, without a limit and with the limits of the scenarios."""
    requests = mooncake(data / "mooncake_conversation.jsonl", random.Random(1))
    sizes = {"unlimited": None, "6000": 6000 * WORKERS, "3000": 3000 * WORKERS}
    return {name: ideal_share(requests, size) for name, size in sizes.items()}


def main(
    data: Annotated[Path, typer.Option(help="Folder with the two traces.")] = ROOT.parent
    / "shared"
    / "data"
    / "traces",
    out: Annotated[Path, typer.Option(help="Folder for policies.csv, .json, .png and the figures of .md.")] = ROOT
    / "docs",
    seeds: Annotated[int, typer.Option(min=1, help="Seeds, from 1 on.")] = 3,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = os.cpu_count() or 1,
) -> None:
    """Compares the placing policies and writes the figures; exits with 1 where a promise is not met."""
    console = new_console()
    runs = study(data, range(1, seeds + 1), jobs, console)
    found = [
        means([one for one, _ in runs if (one.scenario, one.policy) == (scenario.name, policy)])
        for scenario in SCENARIOS
        for policy in POLICIES
    ]
    ideals = ideals_of(data)
    passed = checks(found, ideals["unlimited"])
    for scenario in SCENARIOS:
        table = Table(title=scenario.name)
        table.add_column(HEAD[0], no_wrap=True)
        for name in HEAD[1:]:
            table.add_column(name, justify="right")
        for one in found:
            if one.scenario == scenario.name:
                table.add_row(*cells(one), style="bold" if one.policy == "prefix_aware" else "")
        console.print(table)
    console.print(f"ideal: {', '.join(f'{name} {share:.1%}' for name, share in ideals.items())}")
    for text, ok in passed:
        console.print(f"{'met' if ok else 'NOT MET'}: {text}")
    write(out, runs, found, ideals, passed)
    raise typer.Exit(0 if all(ok for _, ok in passed) else 1)


def write(
    out: Path,
    runs: Sequence[Run],
    found: Sequence[Figures],
    ideals: dict[str, float],
    passed: Sequence[tuple[str, bool]],
) -> None:
    """Puts the figures where `out` says; the page's text stays as it is."""
    with (out / "policies.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(Figures.__annotations__))
        writer.writeheader()
        for one in found:
            writer.writerow({key: round(v, 4) if isinstance(v, float) else v for key, v in asdict(one).items()})
    text = json.dumps({"ideal": ideals, "runs": [asdict(one) for one, _ in runs]}, indent=1)
    (out / "policies.json").write_text(text + "\n")
    page = out / "policies.md"
    if page.is_file() and BEGIN in (old := page.read_text()):
        before, after = old.split(BEGIN)[0], old.split(END)[1]
        page.write_text(f"{before}{BEGIN}\n\n{markdown(found, passed)}\n\n{END}{after}")
    try:
        plot(runs, ideals, out / "policies.png")
    except ModuleNotFoundError as error:
        typer.echo(f"no plot: {error.name} is not installed", err=True)


if __name__ == "__main__":
    typer.run(main)
