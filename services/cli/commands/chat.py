"""`weft chat`: a conversation on one stream."""

from typing import Annotated

import typer

from services.cli import consoles
from services.cli.conversation import Conversation
from services.cli.group import run_async
from services.cli.target import Target, address_of, connected
from services.cli.terminal_lines import TerminalLines
from services.kit.settings import Settings, load_settings
from weft.router.v1 import router_pb2

Index = Annotated[str | None, typer.Option(help="Answer from this index.", show_default="the model alone")]
Model = Annotated[str, typer.Option(help="The model.", show_default="the one that is served")]


def chat(index: Index = None, model: Model = "", target: Target = None) -> None:
    """Talk with a model; Ctrl-C cancels the answer under way, Ctrl-D ends.

    Example: weft chat --index manuals
    """
    settings = load_settings()
    request = router_pb2.StreamChatRequest(model=model, priority=router_pb2.PRIORITY_INTERACTIVE)
    if index is not None:
        request.retrieval.index = index
    run_async(_chat(request, address_of(target, settings), settings))


async def _chat(request: router_pb2.StreamChatRequest, address: str, settings: Settings) -> None:
    with TerminalLines("you> ") as lines:
        async with connected(address, settings) as channel:
            await Conversation(channel, request, lines, consoles.out(), consoles.notes()).run()
