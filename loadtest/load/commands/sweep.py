"""Several numbers of users, one run after the other, side by side."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer
from rich.table import Table
from rich.text import Text

from loadtest.load import results, summary
from loadtest.load.commands import report
from loadtest.load.commands.measure import measure
from loadtest.load.commands.options import Running
from loadtest.load.scenario import Scenario
from services.cli import consoles


def sweep(aim: Running, scenarios: Sequence[Scenario], folder: Path, as_json: bool) -> list[dict[str, Any]]:
    """A run for each scenario, in a folder of its own below this one, and a page for all of them.

    Each has a seed of its own, so that no cache knows its prompts. Ends early where a run was interrupted.
    """
    runs: list[dict[str, Any]] = []
    for number, scenario in enumerate(scenarios):
        name = f"{scenario.users} users"
        found = results.as_json(measure(aim, replace(scenario, seed=scenario.seed + 1000 * number), name))
        place = folder / f"{report.USERS}{scenario.users}"
        results.write(place, found)
        report.write(place, found)
        runs.append(found)
        if found["interrupted_s"] is not None:
            break
    report.write_sweep(folder, runs)
    if as_json:
        typer.echo(json.dumps(runs))
    else:
        console = consoles.out()
        console.print(_table(runs))
        for run in runs:
            for warning in run["generator"]["warnings"]:
                console.print(Text(f"! {run['name']}: {warning}", style="yellow"))
        console.print(f"{folder / report.PAGE}", style="dim")
    return runs


def _table(runs: Sequence[dict[str, Any]]) -> Table:
    table = Table(title="users who wait for each answer; times in ms", title_justify="left")
    for column in summary.USERS_COLUMNS:
        table.add_column(column, justify="right")
    for run in runs:
        table.add_row(*summary.users_cells(run))
    return table
