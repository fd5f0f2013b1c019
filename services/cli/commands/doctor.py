"""`weft doctor`: what this machine has, what is missing and how to get it, and whether the mesh answers."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Annotated

import grpc.aio
import typer
from rich.table import Table
from rich.text import Text

from services.cli import consoles, mesh_file
from services.cli.convert import to_row
from services.cli.doctor import Finding, local_findings, port_findings
from services.cli.group import run_async
from services.cli.plan import plan
from services.cli.ports import FreePorts
from services.cli.problem import FAILED
from services.cli.target import CALL_TIMEOUT_S, Target, address_of, problem_of
from services.kit.channels import dial
from services.kit.settings import Settings, load_settings
from weft.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from weft.retriever.v1 import retriever_pb2, retriever_pb2_grpc
from weft.router.v1 import router_pb2, router_pb2_grpc

Json = Annotated[bool, typer.Option("--json", help="Print one JSON array.")]


def doctor(target: Target = None, as_json: Json = False) -> None:
    """Check this machine and the mesh; say what is missing and how to get it.

    The exit code is 1 when something is missing that Weft cannot do without, or when a mesh runs here and is not well.

    Example: weft doctor
    """
    settings = load_settings()
    run_async(_doctor(target, settings, as_json))


async def _doctor(target: str | None, settings: Settings, as_json: bool) -> None:
    running = mesh_file.read(settings.data_dir)
    known = str(running["target"]) if running and target is None else None
    address = known or address_of(target, settings)
    findings = await asyncio.to_thread(lambda: list(local_findings(settings.data_dir)))
    findings += await _mesh(address, settings, needed=running is not None or target is not None)
    if any(finding.name == "mesh" for finding in findings):
        findings += _ports(settings)
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], ensure_ascii=False))
    else:
        consoles.out().print(_table(findings))
    if any(finding.needed and not finding.ok for finding in findings):
        raise typer.Exit(FAILED)


def _ports(settings: Settings) -> list[Finding]:
    with FreePorts().lend() as free:
        mesh = plan(settings, 2, free.take, ("envoy",))
    return list(port_findings(mesh))


async def _mesh(address: str, settings: Settings, needed: bool) -> list[Finding]:
    """Asks each service through Envoy what only it can answer."""
    async with dial(address, settings.grpc) as channel:

        async def router() -> str:
            stub = router_pb2_grpc.RouterServiceStub(channel)
            answer = await stub.ListModels(router_pb2.ListModelsRequest(), timeout=CALL_TIMEOUT_S)
            return "models: " + (", ".join(model.name for model in answer.models) or "none yet")

        async def workers() -> str:
            stub = router_pb2_grpc.RouterServiceStub(channel)
            answer = await stub.ListWorkers(router_pb2.ListWorkersRequest(), timeout=CALL_TIMEOUT_S)
            return ", ".join(f"{row.worker_id} {row.state}" for row in map(to_row, answer.workers)) or "none"

        async def embedder() -> str:
            stub = embedder_pb2_grpc.EmbedderServiceStub(channel)
            answer = await stub.GetModel(embedder_pb2.GetModelRequest(), timeout=CALL_TIMEOUT_S)
            return f"{answer.model}, {answer.dimensions} dimensions, {answer.runtime}"

        async def retriever() -> str:
            stub = retriever_pb2_grpc.RetrieverServiceStub(channel)
            answer = await stub.ListIndexes(retriever_pb2.ListIndexesRequest(), timeout=CALL_TIMEOUT_S)
            return "indexes: " + (", ".join(f"{i.name} ({i.documents} documents)" for i in answer.indexes) or "none")

        asks = {"router": router, "workers": workers, "embedder": embedder, "retriever": retriever}
        found = list(await asyncio.gather(*(_ask(name, ask, address, needed) for name, ask in asks.items())))
    if not any(finding.ok for finding in found):
        return [Finding("mesh", False, needed, f"no answer through {address}", found[0].advice)]
    return found


async def _ask(name: str, ask: Callable[[], Awaitable[str]], address: str, needed: bool) -> Finding:
    try:
        return Finding(name, True, needed, f"{await ask()}; through {address}")
    except grpc.aio.AioRpcError as error:
        return Finding(name, False, needed, f"no answer through {address}", problem_of(error, address).message)


def _table(findings: list[Finding]) -> Table:
    table = Table("", "what", "found", "what to do", box=None, header_style="dim")
    for finding in findings:
        mark = (
            Text("ok", "green") if finding.ok else Text("missing", "bold red") if finding.needed else Text("–", "dim")
        )
        table.add_row(mark, finding.name, Text(finding.found), Text(finding.advice))
    return table


def _mark(finding: Finding) -> Text:
    if finding.ok:
        return Text("ok", "green")
    return Text("wrong", "bold red") if finding.needed else Text("-", "dim")
