"""What a pool's embedders serve, and what they answer."""

from dataclasses import dataclass

import numpy as np

from services.kit.errors import Internal
from weft.embedder.v1 import embedder_pb2


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """A model's name, the hash that tells whose vectors may be compared, and its sizes."""

    name: str
    fingerprint: str
    dimensions: int
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Embedded:
    """One text's vector: little-endian float32 of length 1. `truncated`: the text's end was not embedded."""

    vector: bytes
    tokens: int
    truncated: bool


def to_model(found: embedder_pb2.GetModelResponse) -> EmbeddingModel:
    """The model as it was told."""
    return EmbeddingModel(found.model, found.fingerprint, found.dimensions, found.max_tokens)


def to_embedded(embedding: embedder_pb2.Embedding, dimensions: int) -> Embedded:
    """The vector as it was answered; raises Internal where it has another length than the model's."""
    vector = np.asarray(embedding.values, "<f4")
    if len(vector) != dimensions:
        raise Internal(
            f"the embedder answered with a vector of {len(vector)} dimensions where its model has {dimensions}",
            reason="WRONG_DIMENSIONS",
        )
    return Embedded(vector.tobytes(), embedding.tokens, embedding.truncated)
