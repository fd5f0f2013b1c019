"""What a pool's embedders serve, and what they answer."""

from dataclasses import dataclass

from services.kit.errors import Internal
from weft.embedder.v1 import embedder_pb2

# Field 1, length-delimited.
_VALUES_TAG = b"\x0a"
_FLOAT_BYTES = 4


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
    vector = _packed_values(embedding)
    if len(vector) != dimensions * _FLOAT_BYTES:
        raise Internal(
            f"the embedder answered with a vector of {len(vector) // _FLOAT_BYTES} dimensions where its model has "
            f"{dimensions}",
            reason="WRONG_DIMENSIONS",
        )
    return Embedded(vector, embedding.tokens, embedding.truncated)


def _packed_values(embedding: embedder_pb2.Embedding) -> bytes:
    """The values as they stand in the message: their packed form is the vector's own bytes.

    Reading them from there takes a twentieth of the time that a list of Python's floats does.
    """
    message = embedding.SerializeToString()
    if not message.startswith(_VALUES_TAG):
        return b""
    # The length follows, seven bits a byte, the lowest first.
    end = length = 0
    for end, byte in enumerate(message[1:], 1):
        length |= (byte & 0x7F) << 7 * (end - 1)
        if byte < 0x80:
            break
    return message[end + 1 : end + 1 + length]
