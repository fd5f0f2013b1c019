"""`weft quarantine`: documents that could not be ingested."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from services.cli import consoles
from services.cli.convert import to_ingested
from services.cli.documents import shown
from services.cli.group import run_async
from services.cli.jobs import QuarantineRow, to_quarantine
from services.cli.problem import FAILED, UsageProblem
from services.cli.target import CALL_TIMEOUT_S, Target, address_of, connected
from services.kit.settings import Settings, load_settings
from weft.retriever.v1 import retriever_pb2, retriever_pb2_grpc

_PAGE = 1000

Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Documents' ids.", show_default="all")]
Index = Annotated[str, typer.Option(help="Only this index's.", show_default="all")]
All = Annotated[bool, typer.Option("--all", help="Really all of them.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def show(index: Index = "", target: Target = None, as_json: Json = False) -> None:
    """List the documents that could not be ingested, newest first, with their reasons.

    Example: weft quarantine list
    """
    settings = load_settings()
    run_async(_show(index, address_of(target, settings), settings, as_json))


def retry(ids: Ids = None, index: Index = "", target: Target = None, as_json: Json = False) -> None:
    """Try them again; those that succeed leave the quarantine. The exit code is 1 when any failed.

    Example: weft quarantine retry
    """
    settings = load_settings()
    run_async(_retry(ids or [], index, address_of(target, settings), settings, as_json))


def clear(ids: Ids = None, index: Index = "", everything: All = False, target: Target = None) -> None:
    """Forget documents in quarantine: those that are named, an index's, or with --all all of them.

    Example: weft quarantine clear --index manuals
    """
    if not (ids or index or everything):
        raise UsageProblem("name documents or an --index, or say --all")
    settings = load_settings()
    run_async(_clear(ids or [], index, address_of(target, settings), settings))


async def _show(index: str, address: str, settings: Settings, as_json: bool) -> None:
    rows: list[QuarantineRow] = []
    async with connected(address, settings) as channel:
        stub = retriever_pb2_grpc.RetrieverServiceStub(channel)
        request = retriever_pb2.ListQuarantineRequest(index=index, page_size=_PAGE)
        while True:
            answer = await stub.ListQuarantine(request, timeout=CALL_TIMEOUT_S)
            rows.extend(map(to_quarantine, answer.documents))
            if not answer.next_page_token:
                break
            request.page_token = answer.next_page_token
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in rows], ensure_ascii=False))
    else:
        consoles.out().print(_table(rows))


async def _retry(ids: Sequence[str], index: str, address: str, settings: Settings, as_json: bool) -> None:
    failed = 0
    async with connected(address, settings) as channel:
        stub = retriever_pb2_grpc.RetrieverServiceStub(channel)
        async for answer in stub.RetryQuarantine(retriever_pb2.RetryQuarantineRequest(index=index, document_ids=ids)):
            found = to_ingested(answer.result)
            failed += found.status == "failed"
            name = shown(found.source) or answer.result.document_id
            typer.echo(json.dumps(asdict(found)) if as_json else f"{name}: {found.problem or found.status}")
    if failed:
        raise typer.Exit(FAILED)


async def _clear(ids: Sequence[str], index: str, address: str, settings: Settings) -> None:
    async with connected(address, settings) as channel:
        stub = retriever_pb2_grpc.RetrieverServiceStub(channel)
        request = retriever_pb2.ClearQuarantineRequest(index=index, document_ids=ids)
        answer = await stub.ClearQuarantine(request, timeout=CALL_TIMEOUT_S)
    typer.echo(f"{answer.cleared} forgotten")


def _table(rows: Sequence[QuarantineRow]) -> Table | str:
    if not rows:
        return "the quarantine is empty"
    found = Table(box=None, header_style="dim", padding=(0, 1, 0, 0))
    found.add_column("document", overflow="fold")
    found.add_column("index", no_wrap=True)
    found.add_column("tries", justify="right", no_wrap=True)
    found.add_column("retry", no_wrap=True)
    found.add_column("why", overflow="fold")
    for row in rows:
        again = "can" if row.can_retry else "send again"
        found.add_row(row.document_id, row.index, str(row.attempts), again, row.problem)
    return found


def build_quarantine() -> typer.Typer:
    """The group of commands."""
    app = typer.Typer(no_args_is_help=True, help="Documents that could not be ingested.")
    app.command("list")(show)
    app.command("retry")(retry)
    app.command("clear")(clear)
    return app
