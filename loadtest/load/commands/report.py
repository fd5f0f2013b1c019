"""`weft load report`: a run's page and summary, made again."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from loadtest.load import results, summary
from services.cli import consoles
from services.cli.problem import UsageProblem

PAGE, SUMMARY = "report.html", "summary.md"
CAPACITY, OVERLOAD, USERS = "capacity.json", "overload", "users-"
Run = Annotated[Path, typer.Argument(help="The folder of a run, of a search for the capacity, or of several --users.")]


def report(run: Run) -> None:
    """Make a run's page and summary again from its results, and print its figures.

    Example: weft load report load-results/20260101-120000-run
    """
    try:
        found = _again(run)
    except results.NoResults as error:
        raise UsageProblem(str(error)) from error
    console = consoles.out()
    for one in found:
        console.print(summary.terminal(one))
    console.print(f"{(run if run.is_dir() else run.parent) / PAGE}", style="dim")


def _again(run: Path) -> list[dict[str, Any]]:
    """Writes every page of what is in the folder; the runs in it."""
    if (run / CAPACITY).exists():
        beyond = [_page_again(file.parent) for file in run.glob(f"{OVERLOAD}/{results.FILE}")]
        write_capacity(run, results.read(run, CAPACITY), beyond[0] if beyond else None)
        return beyond
    if below := list(run.glob(f"{USERS}*/{results.FILE}")):
        runs = [_page_again(file.parent) for file in below]
        runs.sort(key=lambda one: int(one["scenario"]["users"]))
        write_sweep(run, runs)
        return runs
    return [_page_again(run)]


def _page_again(run: Path) -> dict[str, Any]:
    found = results.read(run)
    write(run if run.is_dir() else run.parent, found)
    return found


def write(folder: Path, found: Mapping[str, Any]) -> None:
    """Writes the page and the summary beside the results."""
    # Drawing takes a second to import, which a command that draws nothing should not wait for.
    from loadtest.load.page import page

    (folder / SUMMARY).write_text(summary.markdown(found))
    (folder / PAGE).write_text(page(found))


def write_sweep(folder: Path, runs: Sequence[Mapping[str, Any]]) -> None:
    """Writes the page of runs with different numbers of users."""
    from loadtest.load.page import sweep_page

    (folder / PAGE).write_text(sweep_page(runs))


def write_capacity(folder: Path, found: Mapping[str, Any], beyond: Mapping[str, Any] | None) -> None:
    """Writes the page of a search; `beyond` is the run over the capacity."""
    from loadtest.load.page import capacity_page

    (folder / PAGE).write_text(capacity_page(found, beyond))
