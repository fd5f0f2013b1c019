"""`weft load`: load tests whose figures can be trusted."""

import typer

from loadtest.load.commands.calibrate import calibrate
from loadtest.load.commands.capacity import capacity
from loadtest.load.commands.chaos import chaos
from loadtest.load.commands.compare import compare
from loadtest.load.commands.ghz import ghz
from loadtest.load.commands.replay import replay
from loadtest.load.commands.report import report
from loadtest.load.commands.run import run
from services.cli.group import Commands


def _root() -> None:
    """Load a mesh on a schedule, and say what its clients notice.

    Example: weft load run --rate 20 --seconds 30
    """


def build() -> typer.Typer:
    """The group with all its commands."""
    app = typer.Typer(name="load", cls=Commands, no_args_is_help=True, pretty_exceptions_enable=False, callback=_root)
    for command in (run, replay, capacity, chaos, ghz, compare, report, calibrate):
        app.command()(command)
    return app
