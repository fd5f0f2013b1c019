"""What the embedder needs of a model, and the values that pass between the two."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from services.kit.errors import WeftError

Vector = npt.NDArray[np.float32]
"""One dimension, of length 1 (L2)."""
Vectors = npt.NDArray[np.float32]
"""One Vector a row."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A text as its model reads it: token ids, or the text itself where the model reads that elsewhere.

    `tokens` counts special ones too, and is estimated where the model does not tell. `truncated`: the end was cut off.
    """

    tokens: int
    truncated: bool
    ids: tuple[int, ...] = ()
    text: str = ""


@dataclass(frozen=True, slots=True)
class Embedded:
    """A text's vector and the tokens that it took."""

    vector: Vector
    tokens: int
    truncated: bool


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a model is. Vectors of different fingerprints must not be compared. The prefixes go before every text."""

    name: str
    dimensions: int
    max_tokens: int
    fingerprint: str
    runtime: str
    query_prefix: str = ""
    passage_prefix: str = ""

    def prefix(self, query: bool) -> str:
        """What goes before a text of this purpose."""
        return self.query_prefix if query else self.passage_prefix


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Batches of one model: tokens of each with padding, texts of each, and how many run side by side."""

    tokens: int
    texts: int
    parallel: int


class Model(Protocol):
    """A model, in this process or behind a server. Its owner closes it."""

    @property
    def info(self) -> ModelInfo:
        """What the model is."""

    @property
    def batches(self) -> BatchLimits:
        """What one batch may hold."""

    async def prepare(self, texts: Sequence[str], *, query: bool) -> list[Prepared]:
        """Each text as the model reads it, in order, prefixes added."""

    async def embed(self, batch: Sequence[Prepared], limit_s: float | None) -> list[Embedded | WeftError]:
        """Each text's vector, or why it has none, in order; at least one text. Raises what concerns all of them.

        After `limit_s` nobody waits for them; None: not known.
        """

    async def why_away(self) -> str:
        """Why the model cannot work now, in one sentence; empty where it can. One in this process always can."""

    async def close(self) -> None:
        """Ends its threads and connections."""


class Network(Protocol):
    """A model in this process. Both methods block and may be called from several threads at once."""

    @property
    def info(self) -> ModelInfo:
        """What the model is."""

    def encode(self, texts: Sequence[str]) -> list[Prepared]:
        """Each text's tokens, in order; prefixes are in the texts already."""

    def embed(self, batch: Sequence[Prepared]) -> Vectors:
        """Each text's vector, in order; at least one text."""
