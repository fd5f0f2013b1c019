"""The router's seams: where an answer goes (`Client`), what moves its tokens (`Relay`), what finds passages."""

from collections.abc import Sequence
from typing import Protocol

from services.router.answer import Answer
from services.router.core.chat import Chat, Retrieval
from services.router.core.recover import Outcome
from services.router.core.worker import Worker
from weft.retriever.v1.retriever_pb2 import Passage


class Relay(Protocol):
    """Runs one answer on one worker, moves its tokens to the client and counts their indexes. It decides nothing."""

    async def run(self, worker: Worker, chat: Chat, answer: Answer, deadline_s: float) -> Outcome:
        """Goes on after the tokens that `answer` holds. Cancelling it stops the engine."""
        ...


class Searcher(Protocol):
    """Finds passages for a question."""

    async def search(self, query: str, retrieval: Retrieval, timeout_s: float) -> Sequence[Passage]:
        """Best first. Raises the retriever's error, or Unavailable where it cannot be reached."""
        ...
