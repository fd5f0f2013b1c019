"""`weft load report`: a run's page and summary, made again."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from loadtest.load import results, summary
from services.cli import consoles
from services.cli.problem import UsageProblem

PAGE, SUMMARY = "report.html", "summary.md"
Run = Annotated[Path, typer.Argument(help="A run's folder.")]


def report(run: Run) -> None:
    """Make a run's page and summary again from its results.json, and print its figures.

    Example: weft load report load-results/20260101-120000-run
    """
    try:
        found = results.read(run)
    except results.NoResults as error:
        raise UsageProblem(str(error)) from error
    folder = run if run.is_dir() else run.parent
    write(folder, found)
    console = consoles.out()
    console.print(summary.terminal(found))
    console.print(f"{folder / PAGE}", style="dim")


def write(folder: Path, found: Mapping[str, Any]) -> None:
    """Writes the page and the summary beside the results."""
    # Drawing takes a second to import, which a command that draws nothing should not wait for.
    from loadtest.load.page import page

    (folder / SUMMARY).write_text(summary.markdown(found))
    (folder / PAGE).write_text(page(found))


def write_sweep(
    folder: Path, columns: Sequence[str], rows: Sequence[Sequence[str]], runs: Sequence[Mapping[str, Any]]
) -> None:
    """Writes the page of runs with different numbers of users."""
    from loadtest.load.page import sweep_page

    (folder / PAGE).write_text(sweep_page(columns, rows, runs))


def write_capacity(folder: Path, found: Mapping[str, Any], beyond: Mapping[str, Any] | None) -> None:
    """Writes the page of a search; `beyond` is the run over the capacity."""
    from loadtest.load.page import capacity_page

    (folder / PAGE).write_text(capacity_page(found, beyond))
