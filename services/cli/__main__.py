"""The `weft` command: starts a mesh on this machine and talks to a running one."""

from importlib.metadata import version
from typing import Annotated, Any

import typer

from services.cli.commands.ask import ask
from services.cli.commands.chat import chat
from services.cli.commands.demo import demo
from services.cli.commands.doctor import doctor
from services.cli.commands.indexes import build_indexes
from services.cli.commands.ingest import ingest
from services.cli.commands.ingests import build_ingests
from services.cli.commands.models import build_models
from services.cli.commands.quarantine import build_quarantine
from services.cli.commands.up import up
from services.cli.commands.workers import workers
from services.cli.group import Commands

LOAD = "load"


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


class WithLoad(Commands):
    """Adds `weft load`, which is imported only when it is asked for: it takes as long as all else together."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Every command's name."""
        return [*super().list_commands(ctx), LOAD]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name, or nothing."""
        if cmd_name != LOAD:
            return super().get_command(ctx, cmd_name)
        from loadtest.load.commands.app import build as build_load

        return typer.main.get_command(build_load())


def build() -> typer.Typer:
    """The application with all its commands."""
    app = typer.Typer(
        cls=WithLoad, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, callback=_root
    )
    for command in (up, demo, ingest, ask, chat, workers, doctor):
        app.command()(command)
    app.add_typer(build_models(), name="models")
    app.add_typer(build_indexes(), name="indexes")
    app.add_typer(build_ingests(), name="ingests")
    app.add_typer(build_quarantine(), name="quarantine")
    return app


def main() -> None:
    """Runs the command line; ends the process with its exit code."""
    build()()


if __name__ == "__main__":
    main()
