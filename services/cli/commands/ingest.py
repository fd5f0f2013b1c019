"""`weft ingest`: documents into an index."""

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from services.cli import consoles
from services.cli.convert import Ingested
from services.cli.documents import ENDINGS, find, shown
from services.cli.group import run_async
from services.cli.ingest import Ingest
from services.cli.problem import FAILED, Problem
from services.cli.target import Target, address_of, connected
from services.kit.settings import Settings, load_settings

Paths = Annotated[list[Path], typer.Argument(help="Files and folders.", show_default=False)]
Index = Annotated[str, typer.Option(help="The index that they go into.", show_default="default")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def ingest(paths: Paths, index: Index = "", target: Target = None, as_json: Json = False) -> None:
    """Put files and folders into an index; what is there already is left as it is.

    PDF, DOCX, HTML, Markdown and text are read; in folders, hidden files are left out. The exit code is 1
    when any file failed.

    Example: weft ingest docs/ report.pdf --index manuals
    """
    settings = load_settings()
    files = find(paths)
    if not files:
        raise Problem(f"no documents there: known endings are {' '.join(ENDINGS)}")
    run_async(_ingest(files, index, address_of(target, settings), settings, as_json))


async def _ingest(files: Sequence[Path], index: str, address: str, settings: Settings, as_json: bool) -> None:
    started_s = time.monotonic()
    found = await ingest_files(files, index, address, settings, consoles.notes(quiet=as_json))
    report = summary(found, time.monotonic() - started_s)
    failed = [one for one in found if one.status == "failed"]
    if as_json:
        typer.echo(json.dumps(report | {"failures": [asdict(one) for one in failed]}, ensure_ascii=False))
    else:
        for one in failed:
            typer.echo(f"{shown(one.source)}: {one.problem}", err=True)
        typer.echo(sentence(report))
    if failed:
        raise typer.Exit(FAILED)


async def ingest_files(
    files: Sequence[Path], index: str, address: str, settings: Settings, console: Console
) -> list[Ingested]:
    """Ingests the files with a progress bar on the console, and returns how each fared. Raises Problem."""
    found: list[Ingested] = []
    with ProgressBar(console, len(files)) as advance:

        def done(one: Ingested) -> None:
            found.append(one)
            advance(shown(one.source))

        async with connected(address, settings) as channel:
            try:
                await Ingest(files, index, settings.retriever.max_document_bytes, done).run(channel)
            except Exception:
                if found:
                    console.print(
                        f"{len(found)} of {len(files)} documents were done; ingesting again goes on from there"
                    )
                raise
    return found


class ProgressBar:
    """A progress bar that a terminal alone sees."""

    def __init__(self, console: Console, total: int) -> None:
        columns = (TextColumn("ingesting"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._progress.add_task("", total=total)

    def __repr__(self) -> str:
        return f"ProgressBar({self._progress.tasks[0].completed} of {self._progress.tasks[0].total})"

    def __enter__(self) -> Callable[[str], None]:
        self._progress.start()
        return self._advance

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def _advance(self, name: str) -> None:
        self._progress.update(self._task, advance=1, description=Text(name).markup)


def summary(found: Sequence[Ingested], elapsed_s: float) -> dict[str, Any]:
    """Counts by status, chunks, and the time."""
    counts = Counter(one.status for one in found)
    return {
        "documents": len(found),
        **{status: counts[status] for status in ("indexed", "unchanged", "replaced", "failed")},
        "chunks": sum(one.chunks for one in found),
        "elapsed_s": round(elapsed_s, 3),
    }


def sentence(report: dict[str, Any]) -> str:
    """The summary for people."""
    parts = [f"{report[s]} {s}" for s in ("indexed", "unchanged", "replaced", "failed") if report[s]]
    noun = "document" if report["documents"] == 1 else "documents"
    return f"{report['documents']} {noun}: {', '.join(parts)}; {report['chunks']} chunks, {report['elapsed_s']:.1f} s"
