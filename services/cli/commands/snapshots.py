"""`weft indexes snapshot`: copies of indexes, as files beside the retriever's data."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.filesize import decimal
from rich.table import Table

from services.cli import consoles
from services.cli.group import run_async
from services.cli.indexes import SnapshotRow, to_index, to_snapshot
from services.cli.target import CALL_TIMEOUT_S, Target, address_of, connected
from services.kit.settings import Settings, load_settings
from weft.retriever.v1 import retriever_pb2, retriever_pb2_grpc

Index = Annotated[str, typer.Argument(metavar="INDEX", help="The index, by its name or an alias.")]
Name = Annotated[str, typer.Argument(metavar="SNAPSHOT", help="Its name, as `weft indexes snapshot list` shows it.")]
Of = Annotated[str, typer.Option("--index", help="Only this index's.", show_default="all")]
As = Annotated[str, typer.Option("--index", help="The index to make.", show_default="the one it was made of")]
Replace = Annotated[bool, typer.Option("--replace", help="Put it in the place of an index of that name.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def create(index: Index, target: Target = None, as_json: Json = False) -> None:
    """Copy an index as it is now; searches go on meanwhile, and writers wait.

    Example: weft indexes snapshot create manuals
    """
    settings = load_settings()
    run_async(_create(index, address_of(target, settings), settings, as_json))


def show(index: Of = "", target: Target = None, as_json: Json = False) -> None:
    """List the snapshots, newest first.

    Example: weft indexes snapshot list --index manuals
    """
    settings = load_settings()
    run_async(_show(index, address_of(target, settings), settings, as_json))


def restore(name: Name, index: As = "", replace: Replace = False, target: Target = None) -> None:
    """Make an index of a snapshot; with --replace the old one is searched until the new one is whole.

    Example: weft indexes snapshot restore manuals-20260131-093000-1f2e3d --index manuals-2
    """
    settings = load_settings()
    run_async(_restore(name, index, replace, address_of(target, settings), settings))


def delete(name: Name, target: Target = None) -> None:
    """Delete a snapshot; its index stays.

    Example: weft indexes snapshot delete manuals-20260131-093000-1f2e3d
    """
    settings = load_settings()
    run_async(_delete(name, address_of(target, settings), settings))


async def _create(index: str, address: str, settings: Settings, as_json: bool) -> None:
    async with connected(address, settings) as channel:
        stub = retriever_pb2_grpc.RetrieverServiceStub(channel)
        # Without a deadline, here and when one is restored: either takes as long as the index is large.
        row = to_snapshot((await stub.CreateSnapshot(retriever_pb2.CreateSnapshotRequest(index=index))).snapshot)
    if as_json:
        typer.echo(json.dumps(asdict(row)))
    else:
        typer.echo(f"{row.name}: {row.documents} documents, {decimal(row.size_bytes)}")


async def _show(index: str, address: str, settings: Settings, as_json: bool) -> None:
    async with connected(address, settings) as channel:
        stub = retriever_pb2_grpc.RetrieverServiceStub(channel)
        request = retriever_pb2.ListSnapshotsRequest(index=index)
        rows = [to_snapshot(one) for one in (await stub.ListSnapshots(request, timeout=CALL_TIMEOUT_S)).snapshots]
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in rows]))
    else:
        consoles.out().print(_table(rows))


async def _restore(name: str, index: str, replace: bool, address: str, settings: Settings) -> None:
    async with connected(address, settings) as channel:
        stub = retriever_pb2_grpc.RetrieverServiceStub(channel)
        request = retriever_pb2.RestoreSnapshotRequest(name=name, index=index, replace=replace)
        row = to_index((await stub.RestoreSnapshot(request)).index)
    typer.echo(f"{row.name} holds the {row.documents} documents of {name}")


async def _delete(name: str, address: str, settings: Settings) -> None:
    async with connected(address, settings) as channel:
        stub = retriever_pb2_grpc.RetrieverServiceStub(channel)
        await stub.DeleteSnapshot(retriever_pb2.DeleteSnapshotRequest(name=name), timeout=CALL_TIMEOUT_S)
    typer.echo(f"{name} is deleted")


def _table(rows: Sequence[SnapshotRow]) -> Table | str:
    if not rows:
        return "there is no snapshot: make one with `weft indexes snapshot create INDEX`"
    shown = Table(box=None, header_style="dim", padding=(0, 1, 0, 0))
    for name in ("snapshot", "index"):
        shown.add_column(name, no_wrap=True)
    for name in ("documents", "chunks", "size"):
        shown.add_column(name, justify="right", no_wrap=True)
    shown.add_column("made", no_wrap=True)
    for row in rows:
        numbers = f"{row.documents:,}", f"{row.chunks:,}", decimal(row.size_bytes)
        shown.add_row(row.name, row.index, *numbers, row.created_at)
    return shown


def build_snapshot() -> typer.Typer:
    """The group of commands."""
    app = typer.Typer(no_args_is_help=True, help="Copies of indexes, as files beside the retriever's data.")
    app.command()(create)
    app.command("list")(show)
    app.command()(restore)
    app.command()(delete)
    return app
