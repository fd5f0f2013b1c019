"""`weft models`: the models on this machine, and how to get more."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from services.cli import consoles
from services.cli.pulled import choose, grouped, models_dir, parse, pulled
from services.kit.settings import load_settings

Name = Annotated[
    str, typer.Argument(metavar="ORG/REPO[:FILE]", help="The model on the hub; a quantisation may stand for the file.")
]
DataDir = Annotated[Path | None, typer.Option(help="Where models are kept, under models/.", show_default=".weft")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def pull(name: Name, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Download a GGUF model from the Hugging Face hub; what broke off goes on from there.

    Where a repository has several files they are listed, and one has to be named. Gated models need HF_TOKEN.

    Example: weft models pull Qwen/Qwen2.5-0.5B-Instruct-GGUF:Q4_K_M
    """
    # Only here, since the hub's client takes longer to import than all other commands.
    from services.cli.hub import Hub

    folder, wanted, hub = _folder(data_dir), parse(name), Hub()
    repository = hub.look(wanted.repo)
    model = choose(grouped(file.name for file in repository.files), wanted)
    files = [repository.file(one) for one in model.files]
    console = consoles.notes(quiet=as_json)
    columns = (
        *(TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(model.title, total=sum(file.size_bytes for file in files))
        paths = [hub.pull(repository, file, folder, lambda count: progress.advance(task, count)) for file in files]
    full = f"{wanted.repo}:{model.title}.gguf"
    if as_json:
        typer.echo(json.dumps({"name": full, "path": str(paths[0]), "bytes": sum(file.size_bytes for file in files)}))
    else:
        typer.echo(f"{paths[0]}\nstart it with: weft up --model {full}")


def show(data_dir: DataDir = None, as_json: Json = False) -> None:
    """List the models that were pulled.

    Example: weft models list
    """
    folder = _folder(data_dir)
    rows: list[dict[str, Any]] = []
    for repo, model in pulled(folder):
        paths = [models_dir(folder) / repo / file for file in model.files]
        size = sum(path.stat().st_size for path in paths)
        rows.append({"name": f"{repo}:{model.title}.gguf", "bytes": size, "path": str(paths[0])})
    if as_json:
        typer.echo(json.dumps(rows))
    elif not rows:
        typer.echo(f"no model was pulled to {models_dir(folder)}: get one with `weft models pull ORG/REPO`")
    else:
        table = Table(box=None, header_style="dim", padding=(0, 1, 0, 0))
        table.add_column("model", overflow="fold")
        table.add_column("size", justify="right", no_wrap=True)
        for row in rows:
            table.add_row(row["name"], f"{row['bytes'] / 1e9:.2f} GB")
        consoles.out().print(table)


def _folder(given: Path | None) -> Path:
    return (given or load_settings().data_dir).absolute()


def build_models() -> typer.Typer:
    """The group of commands."""
    app = typer.Typer(no_args_is_help=True, help="Models on this machine, and on the Hugging Face hub.")
    app.command("pull")(pull)
    app.command("list")(show)
    return app
