"""`weft load capacity`: the highest rate that holds the objectives, and what lies beyond it."""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from loadtest.load import results, schedule
from loadtest.load.capacity import LOWEST, Bounds, Found, Probe, Tally, next_rate, tallies
from loadtest.load.commands import options, report
from loadtest.load.commands.measure import measure
from loadtest.load.commands.options import Running
from loadtest.load.results import Outcome
from loadtest.load.scenario import Arrivals, Scenario
from loadtest.load.summary import number
from services.cli import consoles
from services.cli.problem import INTERRUPTED, Problem, UsageProblem

OVERLOAD = 2.0
CALM = 0.5
PROBES_LIMIT = 40
"""Runs of one search."""
CONFIRM_LIMIT = 20
"""Of those, the ones that confirm the answer: the others have to find it."""
SHARP = 100
"""Answers of a run from which on its p99 is another than its slowest."""

Low = Annotated[
    float,
    typer.Option(
        min=0.01, help=f"The rate to begin with, requests a second; where it breaks, down to 1/{1 / LOWEST:g} of it."
    ),
]
High = Annotated[float, typer.Option(min=0.01, help="The rate to stop at.")]
Seconds = Annotated[float, typer.Option(min=1.0, help="Length of each run.")]
Ttft = Annotated[float | None, typer.Option("--ttft-ms", min=0.0, help="p99 of TTFT has to be within this.")]
Itl = Annotated[float | None, typer.Option("--itl-ms", min=0.0, help="p99 of ITL has to be within this.")]
Errors = Annotated[float, typer.Option("--error-share", min=0.0, max=1.0, help="Share of answers that may fail.")]
Precision = Annotated[float, typer.Option(min=0.01, max=1.0, help="How close the rates above and below have to be.")]
Confirm = Annotated[int, typer.Option(min=1, max=CONFIRM_LIMIT, help="Runs of the rate found that have to hold.")]
Over = Annotated[bool, typer.Option("--over/--no-over", help="Then run at twice the rate, and at half of it after.")]


def capacity(
    address: options.Address = None,
    low: Low = 5.0,
    high: High = 2000.0,
    seconds: Seconds = 10.0,
    ttft_ms: Ttft = 1000.0,
    itl_ms: Itl = 100.0,
    error_share: Errors = 0.0,
    precision: Precision = 0.1,
    confirm: Confirm = 3,
    over: Over = True,
    arrivals: options.How = Arrivals.POISSON,
    transport: options.Transport = "grpc",
    model: options.Model = "",
    prompt_tokens: options.PromptTokens = 128,
    shared_tokens: options.SharedTokens = 0,
    max_tokens: options.MaxTokens = 64,
    timeout_s: options.TimeoutS = 300.0,
    start: options.Start = "",
    header: options.Header = None,
    key_env: options.KeyEnv = "",
    tls: options.Tls = False,
    ca_file: options.CaFile = "",
    allow_plain_text: options.PlainText = False,
    seed: options.Seed = 1,
    name: options.Name = "capacity",
    out: options.Out = options.OUT,
) -> None:
    """Search the highest rate that holds the objectives, confirm it, and show what twice that rate does.

    No single run decides: the rate above the answer has to break twice, the answer has to hold --confirm times,
    and of each rate most runs count.

    Example: weft load capacity --ttft-ms 500 --itl-ms 60 --error-share 0.001 --seconds 20
    """
    if low >= high:
        raise UsageProblem("--low must be less than --high")
    bounds = Bounds(_seconds(ttft_ms), _seconds(itl_ms), error_share)
    base = Scenario(
        transport=options.check_transport(transport),
        model=model,
        arrivals=arrivals,
        prompt_tokens=prompt_tokens,
        shared_tokens=shared_tokens,
        max_tokens=max_tokens,
        objectives=options.objectives(ttft_ms, itl_ms, None, None),
        seed=seed,
    )
    folder = options.folder(out, name)
    with options.aimed(
        address,
        start,
        model=model,
        headers=header or (),
        key_env=key_env,
        tls=tls,
        ca_file=ca_file,
        allow_plain_text=allow_plain_text,
        timeout_s=timeout_s,
    ) as aim:
        search = Search(aim, base, bounds, seconds)
        found, beyond, ended = None, None, None
        try:
            found = search.run(low, high, precision, confirm)
            beyond = search.beyond(found.holds, folder) if over and found.holds else None
        except Problem as problem:
            # What was measured until then is worth keeping.
            if not search.probes:
                raise
            ended = problem
    _show(search.probes, search.figures, found)
    _write(folder, base, bounds, search, found, beyond)
    if ended is not None:
        raise ended
    if found is not None and not found.holds:
        raise Problem(f"not even {found.breaks:.3g} requests a second held: {search.probes[-1].broken}")


def _seconds(ms: float | None) -> float | None:
    return None if ms is None else ms / 1e3


class _Interrupted(Problem):
    """The person who ran it stopped it."""

    def __init__(self) -> None:
        super().__init__("interrupted: the runs that had ended are written", exit_code=INTERRUPTED)


class Search:
    """Runs probe after probe against one target, each with requests of its own."""

    def __init__(self, aim: Running, base: Scenario, bounds: Bounds, length_s: float) -> None:
        self._aim = aim
        self._base = base
        self._bounds = bounds
        self._length_s = length_s
        self.target = aim.target.authority
        self.began_s = time.time()
        self.probes: list[Probe] = []
        self.figures: list[dict[str, Any]] = []

    def run(self, low: float, high: float, precision: float, confirm: int) -> Found:
        """Until the capacity is found."""
        while True:
            step = next_rate(self.probes, low, high, precision, confirm)
            if isinstance(step, Found):
                return step
            if len(self.probes) >= PROBES_LIMIT:
                raise Problem(
                    f"the search reached its limit of {PROBES_LIMIT} runs before it was sure of a rate: make --seconds "
                    "longer if the figures vary, or --low and --high closer, --precision larger or --confirm smaller"
                )
            rate, confirming = step
            outcome = self._drive([schedule.Phase(rate, self._length_s, f"{rate:.1f}/s")], f"{rate:.1f} requests/s")
            whole = results.whole_figures(outcome)
            if not whole["sent"]:
                # It kept everything and says nothing.
                before = (
                    f"; {self.probes[-1].rate_per_s:.3g}/s: {self.probes[-1].broken or 'held'}" if self.probes else ""
                )
                raise Problem(f"at {rate:.3g}/s a run sent nothing, make --seconds longer{before}")
            broken = self._bounds.broken_by(whole)
            warnings = outcome.ran.cost.warnings(outcome.collector.whole.lag)
            queues = [look.queued for look in outcome.seen.looks]
            self.probes.append(Probe(rate, broken, confirming))
            self.figures.append(whole | {"warnings": warnings, "queue_most": max(queues, default=None)})
            words = f"[red]{broken}[/]" if broken else "[green]holds[/]"
            consoles.notes().print(
                f"{rate:8.1f}/s  {words}" + (f"  ({warnings[0]})" if warnings else ""), soft_wrap=True
            )

    def beyond(self, rate: float, folder: Path) -> dict[str, Any]:
        """Half the capacity, twice it, and half again: whether overload sheds and recovers."""
        phases = [
            schedule.Phase(rate * CALM, self._length_s, "1: before, half"),
            schedule.Phase(rate * OVERLOAD, self._length_s, "2: twice the capacity"),
            schedule.Phase(rate * CALM, self._length_s, "3: after, half"),
        ]
        outcome = self._drive(phases, "overload")
        found = results.as_json(outcome)
        results.write(folder / report.OVERLOAD, found)
        report.write(folder / report.OVERLOAD, found)
        return found

    def _drive(self, phases: Sequence[schedule.Phase], name: str) -> Outcome:
        # Other requests each time, so that no cache knows them from the run before.
        scenario = replace(self._base, phases=tuple(phases), seed=self._base.seed + 1000 * len(self.probes))
        outcome = measure(self._aim, scenario, name)
        if outcome.ran.stopped_s is not None:
            raise _Interrupted
        return outcome


def _show(probes: Sequence[Probe], figures: Sequence[dict[str, Any]], found: Found | None) -> None:
    table = Table(title="runs, by rate; times in ms", title_justify="left")
    for column in ("req/s", "sent", "TTFT p50", "TTFT p99", "ITL p99", "failed %", "tokens/s", "queue, most", ""):
        table.add_column(column, justify="right" if column else "left")
    for probe, whole in sorted(zip(probes, figures, strict=True), key=lambda pair: pair[0].rate_per_s):
        ttft, itl = whole["times"].get("ttft", {}), whole["times"].get("itl", {})
        table.add_row(
            f"{probe.rate_per_s:.1f}",
            f"{whole['sent']:,}",
            number(ttft.get("p50_ms", 0.0)),
            number(ttft.get("p99_ms", 0.0)),
            number(itl.get("p99_ms", 0.0)),
            f"{whole['error_share'] * 100:.2f}",
            f"{whole['tokens_per_s']:,.0f}",
            "–" if whole["queue_most"] is None else str(whole["queue_most"]),
            probe.broken or "holds",
        )
    console = consoles.out()
    console.print(table)
    for line in _answer(probes, figures, found):
        console.print(line, highlight=False)


def _answer(probes: Sequence[Probe], figures: Sequence[dict[str, Any]], found: Found | None) -> Iterator[str]:
    """What the search found and how sure that is, in words."""
    if found is None:
        yield "[yellow]capacity: not found, since the search did not end[/]"
        return
    runs = tallies(probes)
    held = runs.get(found.holds, Tally())
    words = f"{found.holds:.3g} requests/s held in {held.held} of {held.runs} runs" if found.holds else "none"
    if found.breaks is None:
        yield f"capacity: at least {words}, where --high ended the search"
    else:
        broke = runs[found.breaks]
        yield f"capacity: {words}; {found.breaks:.3g} broke in {broke.broke} of {broke.runs}"
    broken = [whole for probe, whole in zip(probes, figures, strict=True) if probe.broken]
    if late := sum(bool(whole["warnings"]) for whole in broken):
        yield f"[yellow]! in {late} of {len(broken)} broken runs the generator was late: the limit may be its own[/]"
    near = (whole["sent"] for probe, whole in zip(probes, figures, strict=True) if probe.rate_per_s == found.holds)
    if (sent := min(near, default=SHARP)) < SHARP:
        yield f"[yellow]! a run of it had {sent} answers, so its p99 is the slowest one: make --seconds longer[/]"


def _write(
    folder: Path, base: Scenario, bounds: Bounds, search: Search, found: Found | None, beyond: dict[str, Any] | None
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    runs = tallies(search.probes)
    content = {
        "schema": results.SCHEMA,
        **results.provenance(search.target, search.began_s),
        "elapsed_s": round(time.time() - search.began_s, 3),
        "scenario": results.scenario(base),
        "bounds": asdict(bounds),
        "finished": found is not None,
        "holds_per_s": found.holds if found is not None else None,
        "breaks_per_s": found.breaks if found is not None else None,
        "holds_runs": _runs(runs.get(found.holds)) if found is not None else None,
        "breaks_runs": _runs(runs.get(found.breaks or 0.0)) if found is not None else None,
        "probes": [asdict(one) | {"figures": whole} for one, whole in zip(search.probes, search.figures, strict=True)],
        "overload": beyond["groups"] if beyond else None,
    }
    (folder / report.CAPACITY).write_text(json.dumps(content, indent=1) + "\n")
    report.write_capacity(folder, content, beyond)
    consoles.out().print(f"{folder / report.PAGE}", style="dim")


def _runs(tally: Tally | None) -> dict[str, int] | None:
    return None if tally is None else asdict(tally)
