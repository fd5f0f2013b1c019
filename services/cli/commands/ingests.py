"""`weft ingests`: the jobs that fetch what URIs name."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import grpc.aio
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from services.cli import consoles
from services.cli.group import run_async
from services.cli.jobs import JobRow, to_job
from services.cli.problem import FAILED
from services.cli.target import CALL_TIMEOUT_S, Target, address_of, connected
from services.kit.settings import Settings, load_settings
from weft.retriever.v1 import retriever_pb2, retriever_pb2_grpc

JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id, as `weft ingests list` shows it.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def show(target: Target = None, as_json: Json = False) -> None:
    """List the jobs, newest first.

    Example: weft ingests list
    """
    settings = load_settings()
    run_async(_show(address_of(target, settings), settings, as_json))


def watch(job_id: JobId, target: Target = None, as_json: Json = False) -> None:
    """Follow a job until it is over; the exit code is 1 when any of its documents failed.

    Example: weft ingests watch 1b4e28ba2fa111d2883f0016d3cca427
    """
    settings = load_settings()
    run_async(_watch(job_id, address_of(target, settings), settings, as_json))


def cancel(job_id: JobId, target: Target = None, as_json: Json = False) -> None:
    """Stop a job; what it has ingested stays.

    Example: weft ingests cancel 1b4e28ba2fa111d2883f0016d3cca427
    """
    settings = load_settings()
    run_async(_cancel(job_id, address_of(target, settings), settings, as_json))


async def _show(address: str, settings: Settings, as_json: bool) -> None:
    async with connected(address, settings) as channel:
        stub = retriever_pb2_grpc.RetrieverServiceStub(channel)
        answer = await stub.ListIngests(retriever_pb2.ListIngestsRequest(), timeout=CALL_TIMEOUT_S)
    rows = [to_job(job) for job in answer.jobs]
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in rows]))
    else:
        consoles.out().print(table(rows))


async def _watch(job_id: str, address: str, settings: Settings, as_json: bool) -> None:
    async with connected(address, settings) as channel:
        row = await follow(channel, job_id, quiet=as_json)
    report(row, as_json)


async def _cancel(job_id: str, address: str, settings: Settings, as_json: bool) -> None:
    async with connected(address, settings) as channel:
        stub = retriever_pb2_grpc.RetrieverServiceStub(channel)
        request = retriever_pb2.CancelIngestRequest(job_id=job_id)
        row = to_job((await stub.CancelIngest(request, timeout=CALL_TIMEOUT_S)).job)
    typer.echo(json.dumps(asdict(row)) if as_json else f"{row.state}; {row.sentence}")


async def follow(channel: grpc.aio.Channel, job_id: str, *, quiet: bool) -> JobRow:
    """The job when it is over; a terminal sees its progress."""
    console = consoles.notes(quiet=quiet)
    columns = (TextColumn("ingesting"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    stub = retriever_pb2_grpc.RetrieverServiceStub(channel)
    call = stub.WatchIngest(retriever_pb2.WatchIngestRequest(job_id=job_id))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=None)
        try:
            async for answer in call:
                row = to_job(answer.job)
                failed = f"{row.failed} failed" if row.failed else ""
                progress.update(task, total=row.found or None, completed=row.done, description=failed)
        finally:
            call.cancel()
    return row


def report(row: JobRow, as_json: bool) -> None:
    """Prints how the job ended. Exits with code 1 where a document failed."""
    typer.echo(json.dumps(asdict(row)) if as_json else f"{row.state}; {row.sentence}")
    if row.failed:
        typer.echo("what failed, and why: weft quarantine list", err=True)
        raise typer.Exit(FAILED)


def table(rows: Sequence[JobRow]) -> Table | str:
    """The table for people."""
    if not rows:
        return "there is no ingest job: start one with `weft ingest https://…`, s3://… or file://…"
    shown = Table(box=None, header_style="dim", padding=(0, 1, 0, 0))
    for name in ("job", "index", "state"):
        shown.add_column(name, no_wrap=True)
    for name in ("found", "indexed", "replaced", "unchanged", "duplicates", "failed"):
        shown.add_column(name, justify="right", no_wrap=True)
    shown.add_column("started", no_wrap=True)
    for row in rows:
        numbers = (row.found, row.indexed, row.replaced, row.unchanged, row.duplicates, row.failed)
        shown.add_row(row.job_id, row.index, row.state, *map(str, numbers), row.started_at)
    return shown


def build_ingests() -> typer.Typer:
    """The group of commands."""
    app = typer.Typer(no_args_is_help=True, help="Ingest jobs: what URIs name, fetched by the retriever.")
    app.command("list")(show)
    app.command("watch")(watch)
    app.command("cancel")(cancel)
    return app
