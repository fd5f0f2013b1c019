"""`python -m loadtest.chaos`: runs the scenarios of tests/chaos several times and shows what clients noticed."""

import asyncio
import json
import os
import statistics
import tempfile
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.chaos.scenarios import SCENARIOS, Figures, Scenario
from tests.chaos.scenarios.storm import storm

TARGETS = {
    ("killed_worker", "longest_gap_ms"): 300.0,
    ("hung_worker", "over_stall_s_ms"): 300.0,
    ("clients_that_leave", "cancel_to_idle_ms"): 100.0,
}
"""Figures that have a bound to stay under."""

console = Console()


def scenarios(only: list[str] | None, storm_events: int, repeat: int) -> dict[str, Scenario]:
    """Those asked for, in order; each repeat's storm is another one."""
    unknown = set(only or ()) - set(SCENARIOS)
    if unknown:
        raise typer.BadParameter(
            f"no scenario is called {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}"
        )
    found = {name: scenario for name, scenario in SCENARIOS.items() if not only or name in only}
    if "storm" in found:
        found["storm"] = partial(storm, seed=repeat, events=storm_events)
    return found


def run(name: str, scenario: Scenario) -> Figures | None:
    """One scenario's figures; None where it failed, which is told."""
    with tempfile.TemporaryDirectory(prefix="weft-chaos-") as folder:
        try:
            return asyncio.run(scenario(Path(folder)))
        except Exception:
            console.print(f"[red]{name} failed[/]")
            console.print_exception(max_frames=4)
            return None


def show(runs: dict[str, list[Figures | None]]) -> None:
    """One row for each figure: its median and its worst over the runs that held."""
    table = Table(
        title=f"Failures as clients saw them, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end"
    )
    table.add_column("scenario")
    table.add_column("figure")
    for column in ("runs", "failed", "median", "max", "target"):
        table.add_column(column, justify="right")
    for name, found in runs.items():
        held = [figures for figures in found if figures is not None]
        failed = len(found) - len(held)
        first = True
        for figure in held[0] if held else ["–"]:
            values = [figures[figure] for figures in held]
            middle, worst = (f"{statistics.median(values):.1f}", f"{max(values):.1f}") if values else ("–", "–")
            target = TARGETS.get((name, figure))
            bound = f"< {target:g}" if target else ""
            told = (name.replace("_", " "), str(len(found)), str(failed)) if first else ("", "", "")
            table.add_row(told[0], figure.replace("_", " "), *told[1:], middle, worst, bound)
            first = False
        table.add_section()
    console.print(table)


def main(
    repeats: Annotated[int, typer.Option(help="Runs of each scenario.")] = 5,
    only: Annotated[list[str] | None, typer.Option(help="This scenario; may be given several times.")] = None,
    storm_events: Annotated[int, typer.Option(help="Faults of each lane of a storm; each run has its own seed.")] = 6,
    out: Annotated[Path | None, typer.Option(help="Write every number to this JSON file.")] = None,
) -> None:
    """Breaks real processes and connections of small meshes on this machine and measures what clients notice.

    Ends with code 1 where a promise was broken. Example: python -m loadtest.chaos --repeats 5
    """
    runs: dict[str, list[Figures | None]] = {}
    for repeat in range(repeats):
        todo = scenarios(only, storm_events, repeat)
        for name in track(todo, f"run {repeat + 1} of {repeats}", console=console, transient=True):
            runs.setdefault(name, []).append(run(name, todo[name]))
    show(runs)
    if out is not None:
        out.write_text(json.dumps(runs, indent=1))
        console.print(f"every number: {out}")
    if any(figures is None for found in runs.values() for figures in found):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
