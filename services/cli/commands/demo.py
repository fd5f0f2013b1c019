"""`weft demo`: the whole mesh, this project's own documents in it, and a question about them."""

from typing import Annotated

import typer
from rich.console import Console

from services.cli import consoles
from services.cli.assets import own_documents
from services.cli.commands.ask import chat_request, stream_answer
from services.cli.commands.ingest import ingest_files, sentence, summary
from services.cli.commands.up import READY_LIMIT_S, DataDir, Engine, FreePorts, HttpPort, Model, Workers
from services.cli.commands.workers import list_workers, table
from services.cli.documents import find
from services.cli.group import run_async
from services.cli.overrides import Overrides
from services.cli.plan import Mesh
from services.cli.problem import Problem
from services.cli.run import prepare, run
from services.cli.screen import screen_for
from services.kit.clock import monotonic_s
from services.kit.settings import load_settings
from weft.router.v1 import router_pb2

INDEX = "default"
QUESTION = "What happens when a worker dies in the middle of an answer?"

Question = Annotated[str, typer.Option(help="What to ask.")]
Once = Annotated[bool, typer.Option("--once", help="Stop after the answer; the exit code says whether all went well.")]


def demo(
    once: Once = False,
    question: Question = QUESTION,
    workers: Workers = 2,
    engine: Engine = None,
    model: Model = None,
    data_dir: DataDir = None,
    http_port: HttpPort = None,
    free_ports: FreePorts = False,
) -> None:
    """Start the whole mesh, ingest this project's own documents, and ask them a question.

    The mesh stays up until Ctrl-C, for questions of your own.

    Example: weft demo --once
    """
    overrides = Overrides()
    overrides.put("data_dir", data_dir)
    overrides.put("envoy.port", http_port)
    if free_ports:
        overrides.put_free_ports()
    overrides.put_model(engine, model)
    mesh = prepare(load_settings(**overrides.tree), workers)
    console = consoles.out()
    screen = screen_for(console, monotonic_s)

    async def show(mesh: Mesh) -> bool:
        screen.close()
        await _show(mesh, question, console)
        if not once:
            console.print(f'\nnow ask yourself: weft ask "…" --index {INDEX} --target {mesh.target}', markup=False)
        return not once

    run_async(run(mesh, console, screen, READY_LIMIT_S, show))


async def _show(mesh: Mesh, question: str, console: Console) -> None:
    """Ingests, asks, and shows the workers. Raises Problem where anything fails."""
    started_s = monotonic_s()
    files = find(own_documents())
    found = await ingest_files(files, INDEX, mesh.target, mesh.settings, console)
    console.print(f"\n{sentence(summary(found, monotonic_s() - started_s))}")
    if failed := [one for one in found if one.status == "failed"]:
        raise Problem("\n".join(f"{one.source}: {one.problem}" for one in failed))
    console.print(f"\n[bold]{question}[/]\n")
    request = chat_request(question, router_pb2.Retrieval(index=INDEX), "", None)
    answer = await stream_answer(request, mesh.target, mesh.settings, console, consoles.notes())
    if not answer.text.strip():
        raise Problem("the answer is empty: look into the workers' logs")
    console.print()
    console.print(table(await list_workers("", mesh.target, mesh.settings)))
