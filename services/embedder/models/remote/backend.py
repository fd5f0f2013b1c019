"""What a remote model asks of the server behind it, and the values that pass between the two."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from services.embedder.ports import Prepared, Vectors


@dataclass(frozen=True, slots=True)
class Card:
    """What a server says of its model; 0 and empty: it does not say. `identity` goes into the fingerprint."""

    identity: str
    max_tokens: int = 0
    max_texts: int = 0
    runtime: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """Vectors in the order of the texts, not checked yet, and the tokens of all the texts; 0: not told."""

    vectors: Vectors
    tokens: int = 0


class Backend(Protocol):
    """One server. Every method raises Exhausted (429), Unavailable, InvalidArgument (a text is refused) or Internal."""

    async def describe(self) -> Card:
        """What the server has."""

    async def count(self, texts: Sequence[str], max_tokens: int) -> list[Prepared]:
        """The texts as they are to be sent. Counts are exact where the server tells without much ado."""

    async def embed(self, batch: Sequence[Prepared], timeout_s: float) -> Answer:
        """One request."""

    async def reach(self) -> None:
        """Returns where the server could take a request now; costs it next to nothing."""

    async def close(self) -> None:
        """Closes its connections."""
