"""The router's seams: where an answer goes (`Client`), what moves its tokens (`Relay`), what finds passages."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from services.router.answer import Answer
from services.router.case import Placed
from services.router.core.chat import Chat, Retrieval
from services.router.core.recover import Failure, Outcome
from services.router.core.worker import Load, Worker
from weft.retriever.v1.retriever_pb2 import Passage


class Relay(Protocol):
    """Runs one answer on one worker, moves its tokens to the client and counts their indexes. It decides nothing."""

    async def run(
        self, placed: Placed, chat: Chat, answer: Answer, deadline_s: float, hedging: "Hedging | None"
    ) -> "Ran":
        """Goes on after the tokens that `answer` holds. Cancelling it stops the engine.

        With hedging, a second worker is asked when the first stays silent, and whoever brings a token first goes on.
        """
        ...


@dataclass(frozen=True, slots=True)
class Ran:
    """How an answer ended, and where: the reservation there is still to be released."""

    outcome: Outcome
    placed: Placed


class Hedging(Protocol):
    """When a second worker may be asked for the first token, and which."""

    @property
    def after_s(self) -> float:
        """Seconds without a token."""
        ...

    def place(self) -> Placed | None:
        """A second worker with the load reserved on it; None where there is none, or the budget is spent."""
        ...

    def release(self, placed: Placed, outcome: Outcome | None) -> None:
        """The loser's reservation, and how its request ended, where it has."""
        ...


class LinkView(Protocol):
    """A link as those see it who watch over it."""

    @property
    def under_way(self) -> int:
        """Answers that it carries and that have not ended."""
        ...

    def abandon(self, failure: Failure) -> None:
        """Ends every answer on it with this failure, and tells the engine to stop them."""
        ...


class LinkObserver(Protocol):
    """Who is told of links and of what workers report."""

    def link_up(self, worker: Worker, link: LinkView) -> None:
        """The worker's link was opened."""
        ...

    def link_down(self, worker_id: str) -> None:
        """The worker's link is lost."""
        ...

    def report(self, worker_id: str, load: Load) -> None:
        """The worker pushed its load; the table has it already."""
        ...


class Links(Protocol):
    """The links that are up."""

    def link(self, worker_id: str) -> LinkView | None:
        """The worker's link, while it is up."""
        ...


class Searcher(Protocol):
    """Finds passages for a question."""

    async def search(self, query: str, retrieval: Retrieval, timeout_s: float) -> Sequence[Passage]:
        """Best first. Raises the retriever's error, or Unavailable where it cannot be reached."""
        ...
