"""Between the wire's messages and the embedder's values."""

from services.embedder.load import Load
from services.embedder.ports import Embedded, ModelInfo
from services.kit.errors import InvalidArgument
from weft.embedder.v1 import embedder_pb2

_QUERY = {
    embedder_pb2.PURPOSE_UNSPECIFIED: False,
    embedder_pb2.PURPOSE_PASSAGE: False,
    embedder_pb2.PURPOSE_QUERY: True,
}


# Field 1, length-delimited.
_VALUES_TAG = b"\x0a"


def _varint(value: int) -> bytes:
    """Protobuf's form of a length."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def is_query(purpose: embedder_pb2.Purpose) -> bool:
    """Whether the text is one to search with; raises InvalidArgument for a purpose that this version does not know."""
    if purpose not in _QUERY:
        known = ", ".join(embedder_pb2.Purpose.Name(value) for value in _QUERY)
        raise InvalidArgument(f"purpose {purpose} is none of {known}", reason="UNKNOWN_PURPOSE", field="purpose")
    return _QUERY[purpose]


def to_embedding(embedded: Embedded) -> embedder_pb2.Embedding:
    """The vector as it is sent."""
    found = embedder_pb2.Embedding(tokens=embedded.tokens, truncated=embedded.truncated)
    # The packed form of a repeated float is the array's own bytes: reading them is many times faster than a list.
    values = embedded.vector.astype("<f4", copy=False).tobytes()
    found.MergeFromString(_VALUES_TAG + _varint(len(values)) + values)
    return found


def to_model(info: ModelInfo) -> embedder_pb2.GetModelResponse:
    """The model as it is sent."""
    return embedder_pb2.GetModelResponse(
        model=info.name,
        dimensions=info.dimensions,
        max_tokens=info.max_tokens,
        fingerprint=info.fingerprint,
        runtime=info.runtime,
    )


def to_load(load: Load) -> embedder_pb2.WatchLoadResponse:
    """The load as it is sent."""
    return embedder_pb2.WatchLoadResponse(
        queued_texts=load.queued_texts,
        queued_tokens=load.queued_tokens,
        running=load.running,
        tokens_per_s=load.tokens_per_s,
        draining=load.draining,
    )
