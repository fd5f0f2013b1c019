"""`weft indexes`: what the retriever keeps documents in."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import grpc.aio
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from services.cli import consoles
from services.cli.commands.aliases import build_alias
from services.cli.commands.snapshots import build_snapshot
from services.cli.group import run_async
from services.cli.indexes import FusionChoice, IndexRow, RerankChoice, from_settings, to_index
from services.cli.problem import UsageProblem
from services.cli.target import CALL_TIMEOUT_S, Target, address_of, connected
from services.kit.settings import Settings, load_settings
from weft.retriever.v1 import retriever_pb2, retriever_pb2_grpc

Index = Annotated[str, typer.Argument(metavar="INDEX", help="The index, by its name or an alias.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Model = Annotated[str | None, typer.Option(help="The embedding model.", show_default="the embedder's own")]
Language = Annotated[str | None, typer.Option(help="Of stop words and stemmer.", show_default="as in the settings")]
Quantised = Annotated[bool, typer.Option("--quantised", help="Search bytes in place of floats.")]
Tokens = Annotated[int | None, typer.Option(help="Tokens of a chunk.", show_default="as in the settings")]
Overlap = Annotated[int | None, typer.Option(help="Tokens that neighbours share.", show_default="as in the settings")]
Fusing = Annotated[FusionChoice | None, typer.Option(help="How both searches become one.")]
Reranking = Annotated[RerankChoice | None, typer.Option(help="How to order what was found.")]
MinScore = Annotated[float | None, typer.Option(help="Leave out passages below this score.")]
Candidates = Annotated[int | None, typer.Option(help="Passages that each search hands on.")]
Duplicates = Annotated[bool | None, typer.Option(help="Leave out documents that are nearly the same as another.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def show_all(target: Target = None, as_json: Json = False) -> None:
    """List the indexes.

    Example: weft indexes list
    """
    settings = load_settings()
    run_async(_show_all(address_of(target, settings), settings, as_json))


def show(index: Index, target: Target = None, as_json: Json = False) -> None:
    """Show one index with the settings that hold for it.

    Example: weft indexes show manuals
    """
    settings = load_settings()
    run_async(_show(index, address_of(target, settings), settings, as_json))


def create(
    index: Index,
    embedding_model: Model = None,
    chunk_tokens: Tokens = None,
    chunk_overlap_tokens: Overlap = None,
    language: Language = None,
    fusion: Fusing = None,
    rerank: Reranking = None,
    min_score: MinScore = None,
    candidates: Candidates = None,
    quantised: Quantised = False,
    skip_near_duplicates: Duplicates = None,
    target: Target = None,
    as_json: Json = False,
) -> None:
    """Make an empty index with settings of its own; without any, the first document that is ingested makes it.

    Example: weft indexes create manuals --language german --chunk-tokens 120
    """
    wanted = from_settings(
        embedding_model=embedding_model,
        chunk_tokens=chunk_tokens,
        chunk_overlap_tokens=chunk_overlap_tokens,
        bm25_language=language,
        fusion=fusion,
        rerank=rerank,
        min_score=min_score,
        candidates=candidates,
        quantised=quantised,
        skip_near_duplicates=skip_near_duplicates,
    )
    settings = load_settings()
    request = retriever_pb2.CreateIndexRequest(index=index, settings=wanted)
    run_async(_create(request, address_of(target, settings), settings, as_json))


def update(
    index: Index,
    fusion: Fusing = None,
    rerank: Reranking = None,
    min_score: MinScore = None,
    candidates: Candidates = None,
    skip_near_duplicates: Duplicates = None,
    target: Target = None,
    as_json: Json = False,
) -> None:
    """Change how an index is searched; what is not named stays. How it is built changes with `reembed`.

    Example: weft indexes update manuals --rerank mmr
    """
    wanted = from_settings(
        fusion=fusion,
        rerank=rerank,
        min_score=min_score,
        candidates=candidates,
        skip_near_duplicates=skip_near_duplicates,
    )
    if not wanted.ListFields():
        raise UsageProblem("say what to change, such as --rerank mmr; see weft indexes update --help")
    settings = load_settings()
    request = retriever_pb2.UpdateIndexRequest(index=index, settings=wanted)
    run_async(_update(request, address_of(target, settings), settings, as_json))


def delete(index: Index, yes: Yes = False, target: Target = None) -> None:
    """Delete an index with all its documents and aliases; its snapshots stay.

    Example: weft indexes delete manuals
    """
    settings = load_settings()
    run_async(_delete(index, yes, address_of(target, settings), settings))


def reembed(
    index: Index,
    embedding_model: Model = None,
    language: Language = None,
    quantised: Quantised = False,
    target: Target = None,
    as_json: Json = False,
) -> None:
    """Embed every document of an index anew, while it is searched and written to; Ctrl-C leaves it as it was.

    Example: weft indexes reembed manuals --embedding-model all-minilm-l6-v2
    """
    wanted = from_settings(embedding_model=embedding_model, bm25_language=language, quantised=quantised)
    settings = load_settings()
    request = retriever_pb2.ReembedIndexRequest(index=index, settings=wanted)
    run_async(_reembed(request, address_of(target, settings), settings, as_json))


async def _show_all(address: str, settings: Settings, as_json: bool) -> None:
    async with connected(address, settings) as channel:
        stub = retriever_pb2_grpc.RetrieverServiceStub(channel)
        answer = await stub.ListIndexes(retriever_pb2.ListIndexesRequest(), timeout=CALL_TIMEOUT_S)
    rows = [to_index(index) for index in answer.indexes]
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in rows]))
    else:
        consoles.out().print(_table(rows))


async def _show(index: str, address: str, settings: Settings, as_json: bool) -> None:
    async with connected(address, settings) as channel:
        row = await _found(channel, index)
    _report(row, as_json)


async def _create(request: retriever_pb2.CreateIndexRequest, address: str, settings: Settings, as_json: bool) -> None:
    async with connected(address, settings) as channel:
        stub = retriever_pb2_grpc.RetrieverServiceStub(channel)
        answer = await stub.CreateIndex(request, timeout=CALL_TIMEOUT_S)
    _report(to_index(answer.index), as_json)


async def _update(request: retriever_pb2.UpdateIndexRequest, address: str, settings: Settings, as_json: bool) -> None:
    async with connected(address, settings) as channel:
        stub = retriever_pb2_grpc.RetrieverServiceStub(channel)
        answer = await stub.UpdateIndex(request, timeout=CALL_TIMEOUT_S)
    _report(to_index(answer.index), as_json)


async def _delete(index: str, yes: bool, address: str, settings: Settings) -> None:
    async with connected(address, settings) as channel:
        row = await _found(channel, index)
        if not yes:
            _confirm(row)
        stub = retriever_pb2_grpc.RetrieverServiceStub(channel)
        # By its own name: an alias may stand for another index by the time of the answer.
        answer = await stub.DeleteIndex(retriever_pb2.DeleteIndexRequest(index=row.name), timeout=CALL_TIMEOUT_S)
    typer.echo(f"{row.name} is deleted, with {answer.deleted_documents} documents")


async def _reembed(request: retriever_pb2.ReembedIndexRequest, address: str, settings: Settings, as_json: bool) -> None:
    async with connected(address, settings) as channel:
        row = await _follow(channel, request, quiet=as_json)
    if as_json:
        typer.echo(json.dumps(asdict(row)))
    else:
        typer.echo(f"{row.name} holds {row.documents} documents with vectors of {row.embedding_model}")


async def _follow(channel: grpc.aio.Channel, request: retriever_pb2.ReembedIndexRequest, *, quiet: bool) -> IndexRow:
    """The index with its new vectors; a terminal sees the progress."""
    console = consoles.notes(quiet=quiet)
    columns = (TextColumn("embedding anew"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    answer = retriever_pb2.ReembedIndexResponse()
    call = retriever_pb2_grpc.RetrieverServiceStub(channel).ReembedIndex(request)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=None)
        try:
            async for answer in call:
                progress.update(task, total=answer.documents or None, completed=answer.documents_done)
        finally:
            call.cancel()
    return to_index(answer.index)


async def _found(channel: grpc.aio.Channel, index: str) -> IndexRow:
    stub = retriever_pb2_grpc.RetrieverServiceStub(channel)
    answer = await stub.GetIndex(retriever_pb2.GetIndexRequest(index=index), timeout=CALL_TIMEOUT_S)
    return to_index(answer.index)


def _confirm(row: IndexRow) -> None:
    if not sys.stdin.isatty():
        raise UsageProblem(f"{row.name} holds {row.documents} documents; say --yes to delete it without being asked")
    typer.confirm(f"delete {row.name} with its {row.documents} documents?", abort=True)


def _report(row: IndexRow, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(asdict(row)))
        return
    shown = Table(box=None, show_header=False, padding=(0, 1, 0, 0))
    shown.add_column(style="dim", no_wrap=True)
    shown.add_column(overflow="fold")
    for name, value in asdict(row).items():
        shown.add_row(name.replace("_", " "), _words(value))
    consoles.out().print(shown)


def _words(value: object) -> str:
    match value:
        case None | ():
            return "-"
        case bool():
            return "yes" if value else "no"
        case tuple():
            return ", ".join(value)
        case float():
            return f"{value:g}"
    return str(value)


def _table(rows: Sequence[IndexRow]) -> Table | str:
    if not rows:
        return "there is no index: `weft ingest` makes one"
    shown = Table(box=None, header_style="dim", padding=(0, 1, 0, 0))
    shown.add_column("index", no_wrap=True)
    for name in ("documents", "chunks"):
        shown.add_column(name, justify="right", no_wrap=True)
    shown.add_column("model", overflow="fold")
    shown.add_column("store", no_wrap=True)
    shown.add_column("aliases", overflow="fold")
    for row in rows:
        numbers = f"{row.documents:,}", f"{row.chunks:,}"
        shown.add_row(row.name, *numbers, row.embedding_model, row.store, ", ".join(row.aliases))
    return shown


def build_indexes() -> typer.Typer:
    """The group of commands."""
    app = typer.Typer(no_args_is_help=True, help="Indexes: what documents are kept in, their aliases and snapshots.")
    app.command("list")(show_all)
    for command in (show, create, update, delete, reembed):
        app.command()(command)
    app.add_typer(build_alias(), name="alias")
    app.add_typer(build_snapshot(), name="snapshot")
    return app
