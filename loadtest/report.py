"""Tables of what the benchmark found. `python -m loadtest.report FILE.json [--markdown]` prints those of an old run."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Annotated, TypeVar

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from loadtest.figures import (
    QUIET_CORES,
    AddedRun,
    Disturbed,
    Figures,
    RequestRun,
    StreamRun,
    middle,
    quantile,
    undisturbed,
)

WIDTH = 100
"""Tables fit this many columns, and take them all where the output is no terminal."""

NamedT = TypeVar("NamedT", bound=Disturbed)
Column = tuple[str, Callable[[NamedT], float], str]
"""Its header, the number of a run whose median it shows, and that number's format."""

COST: list[Column[StreamRun]] = [
    ("router", lambda run: run.router_us, ".1f"),
    ("Envoy", lambda run: run.envoy_us, ".1f"),
    ("path", lambda run: run.path_us, ".1f"),
    ("workers", lambda run: run.workers_us, ".1f"),
    ("client", lambda run: run.client_us, ".1f"),
    ("tok/s", lambda run: run.tokens_per_s, ",.0f"),
    ("busy %", lambda run: run.machine_share * 100, ".0f"),
]
SEEN: list[Column[StreamRun]] = [
    ("TTFT p50", lambda run: run.ttft_p50_ms, ",.1f"),
    ("p99", lambda run: run.ttft_p99_ms, ",.1f"),
    ("ITL p50", lambda run: run.itl_p50_ms, ",.1f"),
    ("p99", lambda run: run.itl_p99_ms, ",.1f"),
    ("max", lambda run: run.itl_max_ms, ",.0f"),
]
REQUEST: list[Column[RequestRun]] = [
    ("router", lambda run: run.router_us, ",.0f"),
    ("Envoy", lambda run: run.envoy_us, ",.0f"),
    ("path", lambda run: run.path_us, ",.0f"),
    ("workers", lambda run: run.workers_us, ",.0f"),
    ("req/s", lambda run: run.per_s, ",.0f"),
    ("p50 ms", lambda run: run.p50_ms, ".1f"),
    ("p99 ms", lambda run: run.p99_ms, ".1f"),
]
ADDED: list[Column[AddedRun]] = [
    ("p50 µs", lambda run: run.p50_us, ",.0f"),
    ("p90 µs", lambda run: run.p90_us, ",.0f"),
]


def console() -> Console:
    """Where the tables go: a terminal as wide as it is, WIDTH columns anywhere else."""
    return Console(width=None if sys.stdout.isatty() else WIDTH)


def tables(found: Figures) -> list[Table]:
    """Every table of which there are numbers."""
    made = [_idle(found)] if found.idle_mib else []
    if found.ttft_ms:
        made.append(_ttft(found))
    if found.added:
        made.append(_added(found))
    if found.requests:
        made.append(_requests(found))
    if found.runs:
        made += [_cost(found), _latency(found)]
    return made


def _idle(found: Figures) -> Table:
    table = _table(f"Memory of the idle mesh (MiB); ready after {found.ready_s:.1f} s", ["process"], ["resident"])
    for name, size in found.idle_mib.items():
        table.add_row(name, f"{size:.0f}")
    table.add_row("all", f"{sum(found.idle_mib.values()):.0f}", style="bold")
    return table


def _ttft(found: Figures) -> Table:
    title = "First token at one stream (ms); a worker without delay; ways take turns, Python's client"
    table = _table(title, ["way in"], ["answers", "p50", "p99", "added p50"])
    base = median(next(iter(found.ttft_ms.values())))
    for name, values in found.ttft_ms.items():
        mid = median(values)
        table.add_row(name, str(len(values)), f"{mid:.2f}", f"{quantile(values, 0.99):.2f}", f"{mid - base:+.2f}")
    return table


def _added(found: Figures) -> Table:
    title = "Added to the first token of a C worker that is called directly, the two in turn; 5 and 2 ms"
    table = _table(title, ["system"], ["runs", "pairs", "failed", *(head for head, _, _ in ADDED)])
    for name, group in _groups(found.added, lambda run: run.path).items():
        pairs, failed = sum(run.pairs for run in group), sum(run.failed for run in group)
        table.add_row(name, _runs(group), str(pairs), str(failed), *_medians(group, ADDED))
    return table


def _requests(found: Figures) -> Table:
    title = "Requests of one token, 64 at a time, no streaming over HTTP: CPU a request (µs)"
    table = _table(title, ["system", "by"], ["runs", "failed", *(head for head, _, _ in REQUEST)])
    for (name, client), group in _groups(found.requests, lambda run: (run.path, run.client)).items():
        table.add_row(name, client, _runs(group), str(sum(run.failed for run in group)), *_medians(group, REQUEST))
    return table


def _cost(found: Figures) -> Table:
    title = "CPU a token (µs); path: every process between clients and workers"
    return _streams(found, title, COST)


def _latency(found: Figures) -> Table:
    return _streams(found, "What clients saw (ms)", SEEN)


def _streams(found: Figures, title: str, columns: Sequence[Column[StreamRun]]) -> Table:
    table = _table(title, ["streams", "system", "by"], ["runs", "failed", "lost", *(head for head, _, _ in columns)])
    width = None
    groups = _groups(found.runs, lambda run: (run.streams, run.path, run.client))
    for (streams, name, client), group in sorted(groups.items(), key=lambda item: item[0][0]):
        if width not in (None, streams):
            table.add_section()
        failed, lost = sum(run.failed for run in group), sum(run.lost + run.wrong for run in group)
        shown = "" if streams == width else str(streams)
        table.add_row(shown, name, client, _runs(group), str(failed), str(lost), *_medians(group, columns))
        width = streams
    return table


def _table(title: str, left: Sequence[str], right: Sequence[str]) -> Table:
    # The box has a space between columns, so that no padding is needed.
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=0)
    for head in left:
        table.add_column(head, no_wrap=True)
    for head in right:
        table.add_column(head, justify="right")
    return table


KeyT = TypeVar("KeyT")


def _groups(runs: Sequence[NamedT], key: Callable[[NamedT], KeyT]) -> dict[KeyT, list[NamedT]]:
    groups: dict[KeyT, list[NamedT]] = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    return groups


def _runs(group: Sequence[Disturbed]) -> str:
    """Runs that count, of all: `2/3` where others disturbed one, and 0 where they disturbed every one."""
    clean = undisturbed(group)
    return f"{0 if clean is group else len(clean)}/{len(group)}"


def _medians(group: Sequence[NamedT], columns: Sequence[Column[NamedT]]) -> list[str]:
    return [format(middle(group, value), style) for _, value, style in columns]


def notes(found: Figures) -> str:
    """What has to be known to read the tables."""
    runs: list[Disturbed] = [*found.added, *found.requests, *found.runs]
    others = [run.other_cores for run in runs]
    lines = [
        f"{found.machine}; {found.when}",
        f"Medians. runs: those that count of all; in the rest others used {QUIET_CORES:g} cores or more",
        f"(over all runs {median(others):.2f}, {max(others):.2f} at most)." if others else "",
        "lost: tokens that never came, came twice or out of order. busy %: share of all cores.",
    ]
    if any(run.client == "C" for run in found.requests):
        lines += [
            "by: C is the peers' load generator, the same for every system; Py is Weft's own.",
            "Weft's workers are its sim engine over gRPC, which makes a step of its whole batch at once: a",
            "first token waits for the next step, half of one on average. The peers' are in C, over HTTP,",
            "with a clock for each answer.",
            f"The idle mesh used {found.idle_cores:.2f} cores while the peers ran.",
        ]
    answers: list[StreamRun | RequestRun] = [*found.runs, *found.requests]
    for run in answers:
        lines += [
            f"{run.path}, by {run.client}: {count} answers ended with {kind}" for kind, count in run.errors.items()
        ]
    return "\n".join(lines)


def show(found: Figures, to: Console) -> None:
    """Prints everything."""
    for table in tables(found):
        # Printed on its own, since a table breaks its title at its own width.
        title, table.title = table.title, None
        to.print(f"{title}", style="bold", highlight=False)
        to.print(table)
    to.print(notes(found), style="dim", highlight=False)


def markdown(found: Figures) -> str:
    """The same tables for a page."""
    to = Console(width=200, color_system=None)
    with to.capture() as capture:
        for table in tables(found):
            title, table.title, table.box = table.title, None, box.MARKDOWN
            table.pad_edge, table.padding = True, (0, 1)
            for row in table.rows:
                row.end_section = False
            to.print(f"**{title}**\n", highlight=False)
            to.print(table)
        to.print(notes(found), highlight=False)
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"


def main(
    file: Annotated[Path, typer.Argument(help="What `python -m loadtest.bench --out` wrote.", exists=True)],
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Tables for a page.")] = False,
) -> None:
    """Prints the tables of a run."""
    found = Figures.from_json(json.loads(file.read_text()))
    if as_markdown:
        sys.stdout.write(markdown(found))
    else:
        show(found, console())


if __name__ == "__main__":
    typer.run(main)
