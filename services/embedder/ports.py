"""What the embedder needs of a model, and the values that pass between the two."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float32]
"""One dimension, of length 1 (L2)."""
Vectors = npt.NDArray[np.float32]
"""One Vector a row."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """A text as the model reads it, special tokens included; `truncated` where its end was cut off."""

    ids: tuple[int, ...]
    truncated: bool


@dataclass(frozen=True, slots=True)
class Embedded:
    """A text's vector and the tokens that it took."""

    vector: Vector
    tokens: int
    truncated: bool


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a model is. Vectors of different fingerprints must not be compared."""

    name: str
    dimensions: int
    max_tokens: int
    fingerprint: str
    runtime: str


class Model(Protocol):
    """A model in this process. Both methods block and may be called from several threads at once."""

    @property
    def info(self) -> ModelInfo:
        """What the model is."""

    def encode(self, texts: Sequence[str]) -> list[Tokens]:
        """Each text's tokens, in order."""

    def embed(self, batch: Sequence[Tokens]) -> Vectors:
        """Each text's vector, in order; at least one text."""
