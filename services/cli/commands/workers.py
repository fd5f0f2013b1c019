"""`weft workers`: the router's table of workers."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.live import Live
from rich.table import Table
from rich.text import Text

from services.cli import consoles
from services.cli.convert import WorkerRow, to_row
from services.cli.group import run_async
from services.cli.target import CALL_TIMEOUT_S, Target, address_of, connected
from services.kit.settings import Settings, load_settings
from weft.router.v1 import router_pb2, router_pb2_grpc

_STYLES = {"serving": "green", "connecting": "yellow", "draining": "yellow", "suspect": "red", "away": "red"}

Watch = Annotated[bool, typer.Option("--watch", help="Show every change until Ctrl-C.")]
Model = Annotated[str, typer.Option(help="Only this model's.", show_default="all")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON: one array, or with --watch one in each line.")]


def workers(watch: Watch = False, model: Model = "", target: Target = None, as_json: Json = False) -> None:
    """Show the workers: how each is, what it has to do, and how often it came back.

    Example: weft workers --watch
    """
    settings = load_settings()
    show = _watch if watch else _once
    run_async(show(model, address_of(target, settings), settings, as_json))


async def _once(model: str, address: str, settings: Settings, as_json: bool) -> None:
    rows = await list_workers(model, address, settings)
    if as_json:
        typer.echo(_json(rows))
    else:
        consoles.out().print(table(rows, model))


async def list_workers(model: str, address: str, settings: Settings) -> list[WorkerRow]:
    """The table as it is now. Raises Problem."""
    async with connected(address, settings) as channel:
        router = router_pb2_grpc.RouterServiceStub(channel)
        answer = await router.ListWorkers(router_pb2.ListWorkersRequest(model=model), timeout=CALL_TIMEOUT_S)
    return [to_row(worker) for worker in answer.workers]


async def _watch(model: str, address: str, settings: Settings, as_json: bool) -> None:
    console = consoles.out(quiet=as_json)
    async with connected(address, settings) as channel:
        router = router_pb2_grpc.RouterServiceStub(channel)
        call = router.WatchWorkers(router_pb2.WatchWorkersRequest(model=model))
        with Live(console=console, auto_refresh=False) as live:
            try:
                async for answer in call:
                    rows = [to_row(worker) for worker in answer.workers]
                    if as_json:
                        typer.echo(_json(rows))
                    live.update(table(rows, model), refresh=True)
            finally:
                call.cancel()


def _json(rows: Iterable[WorkerRow]) -> str:
    return json.dumps([asdict(row) for row in rows])


def table(rows: Sequence[WorkerRow], model: str = "") -> Table | str:
    """The table for people; `model` is the only one that was asked for."""
    if not rows and model:
        return f"no worker serves {model}: see `weft workers` for those that there are"
    if not rows:
        return "no worker is known: start one with `weft up`"
    shown = Table(box=None, header_style="dim", padding=(0, 1, 0, 0))
    for name in ("worker", "state"):
        shown.add_column(name, no_wrap=True)
    for name in ("model", "engine"):
        shown.add_column(name, overflow="fold")
    for name in ("running", "waiting", "in flight", "done", "failed", "restarts"):
        shown.add_column(name, justify="right", no_wrap=True)
    if any(row.state_reason for row in rows):
        shown.add_column("why", style="dim")
    for row in rows:
        numbers = (row.running, row.waiting, row.in_flight, row.finished, row.failed, row.restarts)
        state = Text(row.state, style=_STYLES.get(row.state, ""))
        why = [Text(row.state_reason)] if row.state_reason else []
        shown.add_row(row.worker_id, state, row.model, row.engine, *map(str, numbers), *why)
    return shown
