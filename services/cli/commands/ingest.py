"""`weft ingest`: documents into an index."""

import asyncio
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
from services.cli.commands.ingests import follow, report
from services.cli.convert import Ingested
from services.cli.documents import ENDINGS, find, shown
from services.cli.group import run_async
from services.cli.indexed import indexed
from services.cli.ingest import Ingest
from services.cli.jobs import to_job
from services.cli.problem import FAILED, Problem, UsageProblem
from services.cli.target import CALL_TIMEOUT_S, Target, address_of, connected
from services.kit.settings import Settings, load_settings
from weft.retriever.v1 import retriever_pb2, retriever_pb2_grpc

_STATUSES = ("indexed", "unchanged", "replaced", "duplicate", "failed")

Paths = Annotated[
    list[str], typer.Argument(help="Files and folders; or URIs: https://…, s3://bucket/prefix.", show_default=False)
]
Again = Annotated[
    bool, typer.Option("--again", help="Send what is there with the same content too: chunk settings have changed.")
]
Detach = Annotated[bool, typer.Option("--detach", help="With URIs: print the job's id and do not wait for its end.")]
Index = Annotated[str, typer.Option(help="The index that they go into.", show_default="default")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def ingest(
    paths: Paths,
    index: Index = "",
    again: Again = False,
    detach: Detach = False,
    target: Target = None,
    as_json: Json = False,
) -> None:
    """Put files, folders or what URIs name into an index; what is there already is left as it is.

    PDF, DOCX, HTML, Markdown, CSV, JSON and text are read; in folders, hidden files are left out. Files are
    sent from here; what broke off goes on when it is called again. URIs are fetched by the retriever, in a job
    that goes on by itself. The exit code is 1 when any document failed.

    Example: weft ingest docs/ report.pdf --index manuals
    """
    settings = load_settings()
    address = address_of(target, settings)
    uris = [path for path in paths if "://" in path]
    if uris:
        if len(uris) < len(paths):
            raise UsageProblem("paths are sent from here and URIs fetched by the retriever: name one kind at a time")
        run_async(_start(uris, index, address, settings, detach, as_json))
        return
    if detach:
        raise UsageProblem("--detach: files are sent from here; only what URIs name is fetched without you")
    files = find(map(Path, paths))
    if not files:
        raise Problem(f"no documents there: known endings are {' '.join(ENDINGS)}")
    run_async(_ingest(files, index, address, settings, again, as_json))


async def _start(
    uris: Sequence[str], index: str, address: str, settings: Settings, detach: bool, as_json: bool
) -> None:
    async with connected(address, settings) as channel:
        stub = retriever_pb2_grpc.RetrieverServiceStub(channel)
        request = retriever_pb2.StartIngestRequest(index=index, uris=uris)
        row = to_job((await stub.StartIngest(request, timeout=CALL_TIMEOUT_S)).job)
        if detach:
            typer.echo(json.dumps(asdict(row)) if as_json else row.job_id)
            return
        try:
            row = await follow(channel, row.job_id, quiet=as_json)
        except asyncio.CancelledError:
            consoles.notes().print(f"the job goes on: weft ingests watch {row.job_id}, or weft ingests cancel")
            raise
    report(row, as_json)


async def _ingest(
    files: Sequence[Path], index: str, address: str, settings: Settings, again: bool, as_json: bool
) -> None:
    started_s = time.monotonic()
    found = await ingest_files(files, index, address, settings, consoles.notes(quiet=as_json), again=again)
    totals = summary(found, time.monotonic() - started_s)
    failed = [one for one in found if one.status == "failed"]
    if as_json:
        typer.echo(json.dumps(totals | {"failures": [asdict(one) for one in failed]}, ensure_ascii=False))
    else:
        for one in failed:
            typer.echo(f"{shown(one.source)}: {one.problem}", err=True)
        typer.echo(sentence(totals))
    if failed:
        raise typer.Exit(FAILED)


async def ingest_files(
    files: Sequence[Path], index: str, address: str, settings: Settings, console: Console, *, again: bool = False
) -> list[Ingested]:
    """Ingests the files with a progress bar on the console, and returns how each fared. Raises Problem.

    Only with `again` are those sent that are there with the same content.
    """
    found: list[Ingested] = []
    with ProgressBar(console, len(files)) as advance:

        def done(one: Ingested) -> None:
            found.append(one)
            advance(shown(one.source))

        async with connected(address, settings) as channel:
            try:
                known = {} if again else await indexed(channel, index, files)
                await Ingest(files, index, settings.retriever.max_document_bytes, done, known).run(channel)
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
        **{status: counts[status] for status in _STATUSES},
        "near_duplicates": sum(bool(one.near_duplicate_of) for one in found),
        "chunks": sum(one.chunks for one in found),
        "elapsed_s": round(elapsed_s, 3),
    }


def sentence(totals: dict[str, Any]) -> str:
    """The summary for people."""
    parts = [f"{totals[s]} {s}" for s in _STATUSES if totals[s]]
    if totals["near_duplicates"]:
        parts.append(f"{totals['near_duplicates']} nearly the same as another")
    noun = "document" if totals["documents"] == 1 else "documents"
    return f"{totals['documents']} {noun}: {', '.join(parts)}; {totals['chunks']} chunks, {totals['elapsed_s']:.1f} s"
