"""What every run shows while it runs, and leaves when it is over."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from loadtest.load import results, summary
from loadtest.load.commands import report
from loadtest.load.results import Outcome
from loadtest.load.runner import OnTick
from services.cli import consoles


@contextmanager
def progress(name: str, length_s: float) -> Iterator[OnTick]:
    """A bar over the run's time, with the answers under way."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[under_way]} under way"))
    console = consoles.notes()
    # Where nobody looks, such as in a file, a bar that goes away leaves an empty line.
    hidden = not console.is_terminal
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task(name, total=max(length_s, 0.001), under_way=0)

        def tick(now_s: float, under_way: int) -> None:
            bar.update(task, completed=min(now_s, length_s), under_way=under_way)

        yield tick


def leave(outcome: Outcome, folder: Path, *, as_json: bool = False) -> dict[str, Any]:
    """Writes the run's folder and prints its figures; returns what stands in results.json."""
    found = results.as_json(outcome)
    results.write(folder, found)
    report.write(folder, found)
    if as_json:
        typer.echo(json.dumps(found))
    else:
        console = consoles.out()
        console.print(summary.terminal(found))
        console.print(f"{folder / report.PAGE}", style="dim")
    return found
