"""`weft indexes alias`: other names for indexes."""

from typing import Annotated

import typer

from services.cli.group import run_async
from services.cli.target import CALL_TIMEOUT_S, Target, address_of, connected
from services.kit.settings import Settings, load_settings
from weft.retriever.v1 import retriever_pb2, retriever_pb2_grpc

Alias = Annotated[str, typer.Argument(metavar="ALIAS", help="The other name.")]
Index = Annotated[str, typer.Argument(metavar="INDEX", help="The index that it stands for.")]


def set_alias(alias: Alias, index: Index, target: Target = None) -> None:
    """Let another name stand for an index; one that stood for another is moved in one step.

    Example: weft indexes alias set now manuals-2
    """
    settings = load_settings()
    run_async(_set(alias, index, address_of(target, settings), settings))


def remove(alias: Alias, target: Target = None) -> None:
    """Forget an alias; its index stays.

    Example: weft indexes alias remove now
    """
    settings = load_settings()
    run_async(_remove(alias, address_of(target, settings), settings))


async def _set(alias: str, index: str, address: str, settings: Settings) -> None:
    async with connected(address, settings) as channel:
        stub = retriever_pb2_grpc.RetrieverServiceStub(channel)
        request = retriever_pb2.SetAliasRequest(alias=alias, index=index)
        before = (await stub.SetAlias(request, timeout=CALL_TIMEOUT_S)).previous_index
    typer.echo(f"{alias} stands for {index}" + (f", and stood for {before} before" if before else ""))


async def _remove(alias: str, address: str, settings: Settings) -> None:
    async with connected(address, settings) as channel:
        stub = retriever_pb2_grpc.RetrieverServiceStub(channel)
        await stub.DeleteAlias(retriever_pb2.DeleteAliasRequest(alias=alias), timeout=CALL_TIMEOUT_S)
    typer.echo(f"{alias} stands for nothing any more")


def build_alias() -> typer.Typer:
    """The group of commands."""
    app = typer.Typer(no_args_is_help=True, help="Other names for indexes; `weft indexes list` shows them.")
    app.command("set")(set_alias)
    app.command()(remove)
    return app
