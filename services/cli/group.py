"""The root of the commands: turns expected failures into one sentence on stderr and an exit code."""

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any

import grpc.aio
import typer
from typer.core import TyperGroup

from services.cli.problem import FAILED, INTERRUPTED, USAGE, Problem
from services.kit.errors import WeftError, from_rpc
from services.kit.settings import SettingsError


class Commands(TyperGroup):
    """Runs a command and says in words what stopped it."""

    def invoke(self, ctx: Any) -> Any:
        """The command's own result; typer.Exit with the exit code when something stopped it."""
        try:
            return super().invoke(ctx)
        except Problem as problem:
            raise _exit(problem.message, problem.exit_code) from problem
        except SettingsError as error:
            raise _exit(str(error), USAGE) from error
        except WeftError as error:
            raise _exit(error.message, FAILED) from error
        except grpc.aio.AioRpcError as error:
            raise _exit(from_rpc(error).message, FAILED) from error
        except (KeyboardInterrupt, asyncio.CancelledError) as error:
            raise typer.Exit(INTERRUPTED) from error
        except BrokenPipeError as error:
            # Whoever read the output has enough; Python must not complain about it at its end.
            sys.stdout = None
            raise typer.Exit(FAILED) from error
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            raise _exit(f"{where}{error.strerror or error}", FAILED) from error


def _exit(message: str, code: int) -> typer.Exit:
    typer.echo(f"weft: {message}", err=True)
    return typer.Exit(code)


def run_async(work: Coroutine[Any, Any, None]) -> None:
    """Runs a command's work to its end; Ctrl-C cancels it and comes out as KeyboardInterrupt."""
    asyncio.run(work)
