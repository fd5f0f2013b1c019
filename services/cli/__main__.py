"""The `weft` command: starts a mesh on this machine and talks to a running one."""

from importlib.metadata import version
from typing import Annotated

import typer

from services.cli.commands.ask import ask
from services.cli.commands.chat import chat
from services.cli.commands.demo import demo
from services.cli.commands.doctor import doctor
from services.cli.commands.ingest import ingest
from services.cli.commands.up import up
from services.cli.commands.workers import workers
from services.cli.group import Commands


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"weft {version('weft')}")
        raise typer.Exit


def _root(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Weft serves language models and retrieval: one mesh, over gRPC, JSON and OpenAI's API.

    Example: weft demo
    """


def build() -> typer.Typer:
    """The application with all its commands."""
    app = typer.Typer(
        cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, callback=_root
    )
    for command in (up, demo, ingest, ask, chat, workers, doctor):
        app.command()(command)
    return app


def main() -> None:
    """Runs the command line; ends the process with its exit code."""
    build()()


if __name__ == "__main__":
    main()
