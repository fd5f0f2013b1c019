"""`weft load compare A B`: what got better or worse."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from loadtest.load import results
from loadtest.load.compare import RUNS_FOR_BOOTSTRAP, Change, WrongGate
from loadtest.load.compare import compare as changes_between
from loadtest.load.compare import gate as judge
from loadtest.load.summary import number
from services.cli import consoles
from services.cli.problem import Problem, UsageProblem

_STYLES = {"better": "green", "worse": "red", "same": "dim", "unsure": "yellow"}

Before = Annotated[Path, typer.Argument(help="A run's folder, or a folder of several runs: what was.")]
After = Annotated[Path, typer.Argument(help="The same: what is.")]
Gates = Annotated[list[str] | None, typer.Option("--gate", help="FIGURE<=RATIO: exit code 1 where it does not hold.")]


def compare(before: Before, after: After, gate: Gates = None) -> None:
    """Say what got better or worse from one run to another, and how sure that is.

    With three runs or more on each side the intervals are a bootstrap over runs.

    Example: weft load compare results/before results/after --gate 'ttft.p99<=1.05'
    """
    a, b = runs(before), runs(after)
    changes = changes_between(a, b)
    console = consoles.out()
    console.print(_table(changes, len(a), len(b)))
    if min(len(a), len(b)) < RUNS_FOR_BOOTSTRAP:
        console.print(
            f"fewer than {RUNS_FOR_BOOTSTRAP} runs on a side: intervals take each answer for independent, and are too"
            " narrow; rates and costs have none",
            style="yellow",
        )
    if (different := _differences(a, b)) and different:
        console.print(f"the runs differ in {different}", style="yellow")
    try:
        failed = [why for text in gate or () if (why := judge(changes, text))]
    except WrongGate as error:
        raise UsageProblem(f"--gate: {error}") from error
    if failed:
        raise Problem("; ".join(failed))


def runs(path: Path) -> list[dict[str, Any]]:
    """The runs in a folder: its own, or those of the folders in it. Raises UsageProblem."""
    folders = [path] if path.is_file() or (path / results.FILE).exists() else sorted(path.glob(f"*/{results.FILE}"))
    if not folders:
        raise UsageProblem(f"{path} holds no {results.FILE}, and no folder with one")
    try:
        return [results.read(folder) for folder in folders]
    except results.NoResults as error:
        raise UsageProblem(str(error)) from error


def _table(changes: Sequence[Change], a: int, b: int) -> Table:
    table = Table(title=f"{a} against {b} runs, medians", title_justify="left")
    for name in ("figure", "A", "B", "B/A", "95 %", ""):
        table.add_column(name, justify="left" if name in ("figure", "") else "right")
    for change in changes:
        verdict = change.verdict
        interval = f"{change.low:.2f} – {change.high:.2f}"
        style = _STYLES[verdict]
        cells = (change.metric.name, number(change.a), number(change.b), f"{change.ratio:.3f}", interval)
        table.add_row(*cells, f"[{style}]{verdict}[/]")
    return table


def _differences(a: Sequence[dict[str, Any]], b: Sequence[dict[str, Any]]) -> str:
    """What of the scenario and the machine is not the same, so that a difference may come from there."""
    first, second = a[0], b[0]
    keys = [f"scenario.{key}" for key in first["scenario"] if first["scenario"][key] != second["scenario"].get(key)]
    if first["machine"]["description"] != second["machine"]["description"]:
        keys.append("machine")
    return ", ".join(keys)
