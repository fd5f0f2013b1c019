"""The mesh that a command talks to: its address, its channel, and clear words when it does not answer."""

import contextlib
from collections.abc import AsyncIterator
from typing import Annotated

import grpc
import grpc.aio
import typer

from services.cli import mesh_file
from services.cli.plan import reach
from services.cli.problem import Problem, UsageProblem
from services.kit.channels import dial
from services.kit.errors import WeftError, from_rpc
from services.kit.settings import Settings

Target = Annotated[
    str | None,
    typer.Option(
        help="host:port of the mesh.",
        show_default="the mesh that runs on the data folder, or envoy.host:envoy.port of the settings",
    ),
]
CALL_TIMEOUT_S = 10.0
# What gRPC says when no connection could be made, and what Envoy says when the service behind it is away.
_NO_CONNECTION = (
    "failed to connect",
    "connection refused",
    "dns resolution failed",
    "no route to host",
    "errors resolving",
    "lookup failed",
)
_DETAILS_KEY = "grpc-status-details-bin"
_NO_UPSTREAM = ("upstream connect error", "no healthy upstream", "upstream_reset")


def address_of(target: str | None, settings: Settings) -> str:
    """host:port of `--target`; without it, of the mesh that runs on the data folder, or else of Envoy in the settings.

    Raises UsageProblem where it is no host:port.
    """
    if target is None:
        running = mesh_file.read(settings.data_dir)
        return str(running["target"]) if running else reach(settings.envoy.host, settings.envoy.port)
    host, colon, port = target.removeprefix("http://").rstrip("/").rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise UsageProblem(f"--target: `{target}` is no host:port, such as 127.0.0.1:8080")
    return f"{host}:{port}"


@contextlib.asynccontextmanager
async def connected(address: str, settings: Settings) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to the mesh; what its calls fail with comes out as a Problem in words."""
    async with dial(address, settings.grpc) as channel:
        try:
            yield channel
        except grpc.aio.AioRpcError as error:
            raise problem_of(error, address) from error
        except WeftError as error:
            raise Problem(_sentence(error)) from error


def problem_of(error: grpc.aio.AioRpcError, address: str) -> Problem:
    """What a failed call means to the person who ran the command."""
    if any(key == _DETAILS_KEY for key, _ in error.trailing_metadata() or ()):
        # A service of the mesh said this, in words for people.
        return Problem(_sentence(from_rpc(error)))
    details = (error.details() or "").lower()
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Problem(f"the mesh at {address} did not answer in time: see `weft doctor`")
    if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        return Problem(f"{address}: {error.details() or error.code().name}")
    if any(words in details for words in _NO_UPSTREAM):
        return Problem(f"{address} answers, but the service for this call is away: try again, or see `weft doctor`")
    if any(words in details for words in _NO_CONNECTION):
        return Problem(f"nothing answers at {address}: start the mesh with `weft up`, or name it with --target")
    return Problem(f"the mesh at {address} ended the call, because it stops or was stopped: see `weft doctor`")


def _sentence(error: WeftError) -> str:
    if error.retry_delay_s is not None and "again" not in error.message:
        return f"{error.message} (try again in {error.retry_delay_s:.0f} s)"
    return error.message
