"""`weft ask`: one question, one answer."""

import json
from typing import Annotated

import typer
from rich.console import Console

from services.cli import consoles
from services.cli.answer import Answer, Printer
from services.cli.convert import to_event
from services.cli.group import run_async
from services.cli.problem import UsageProblem
from services.cli.target import Target, address_of, connected
from services.kit.settings import Settings, load_settings
from weft.chat.v1 import chat_pb2
from weft.router.v1 import router_pb2, router_pb2_grpc

Question = Annotated[str, typer.Argument(help="The question.", show_default=False)]
Index = Annotated[str, typer.Option(help="The index to answer from.", show_default="default")]
Retrieval = Annotated[bool, typer.Option("--retrieval/--no-retrieval", help="Answer from an index, or not.")]
Model = Annotated[str, typer.Option(help="The model.", show_default="the one that is served")]
TopK = Annotated[int, typer.Option(min=1, max=20, help="Passages to retrieve.")]
MaxTokens = Annotated[int | None, typer.Option(min=1, help="Longest answer.", show_default="the model's")]
MinScore = Annotated[float | None, typer.Option(help="Leave out passages that score less.", show_default="the index's")]
Anyway = Annotated[bool, typer.Option("--answer-anyway", help="Ask the model even where nothing relevant is found.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object once the answer is complete.")]


def ask(
    question: Question,
    index: Index = "",
    retrieval: Retrieval = True,
    model: Model = "",
    top_k: TopK = 5,
    max_tokens: MaxTokens = None,
    min_score: MinScore = None,
    answer_anyway: Anyway = False,
    target: Target = None,
    as_json: Json = False,
) -> None:
    """Ask a question; the answer comes as it is generated, then its sources, with those that it cites highlighted.

    Citations that point nowhere, and sentences that the sources do not support, are named after the answer.

    Example: weft ask "How do I install it on Linux?" --index manuals
    """
    if not question.strip():
        raise UsageProblem("the question is empty")
    if index and not retrieval:
        raise UsageProblem("--index and --no-retrieval exclude each other: leave one out")
    if (min_score is not None or answer_anyway) and not retrieval:
        raise UsageProblem("--min-score and --answer-anyway say how to retrieve: leave out --no-retrieval")
    settings = load_settings()
    chosen = None
    if retrieval:
        chosen = router_pb2.Retrieval(
            index=index, top_k=top_k, min_score=min_score, answer_without_sources=answer_anyway
        )
    request = chat_request(question, chosen, model, max_tokens)
    run_async(_ask(request, address_of(target, settings), settings, as_json))


async def _ask(request: router_pb2.StreamChatRequest, address: str, settings: Settings, as_json: bool) -> None:
    answer = await stream_answer(request, address, settings, consoles.out(quiet=as_json), consoles.notes(quiet=as_json))
    if as_json:
        typer.echo(json.dumps(answer.to_json(), ensure_ascii=False))


def chat_request(
    question: str, retrieval: router_pb2.Retrieval | None, model: str, max_tokens: int | None
) -> router_pb2.StreamChatRequest:
    """The request for one question of a person who waits for the answer."""
    return router_pb2.StreamChatRequest(
        model=model,
        messages=[chat_pb2.Message(role=chat_pb2.ROLE_USER, content=question)],
        sampling=chat_pb2.Sampling(max_tokens=max_tokens),
        priority=router_pb2.PRIORITY_INTERACTIVE,
        retrieval=retrieval,
    )


async def stream_answer(
    request: router_pb2.StreamChatRequest, address: str, settings: Settings, out: Console, notes: Console
) -> Answer:
    """Asks, prints the answer as it comes, and returns it whole. Raises Problem."""
    answer, printer = Answer(), Printer(out, notes)
    async with connected(address, settings) as channel:
        call = router_pb2_grpc.RouterServiceStub(channel).StreamChat(request)
        try:
            async for message in call:
                event = to_event(message)
                answer.take(event)
                printer.event(event)
        except BaseException:
            printer.broken(answer)
            raise
        finally:
            # Leaving early has to stop the engine as well.
            call.cancel()
    printer.end(answer)
    return answer
