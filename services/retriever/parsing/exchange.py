"""What goes over a parser's pipe, both ways. JSON, since a parser that hostile bytes took over must not be believed."""

import json
from dataclasses import dataclass, fields

from services.retriever.document import Chunk, Prepared
from services.retriever.failure import FailureCode, IngestFailure
from services.retriever.frames import LENGTH


@dataclass(frozen=True, slots=True)
class Question:
    """A document to prepare, and how to cut it; `name` is its source or id.

    `overlap_tokens` is at most half of `chunk_tokens`.
    """

    name: str
    title: str
    media_type: str
    language: str
    licence: str
    chunk_tokens: int
    overlap_tokens: int
    content: bytes


def encode_question(question: Question) -> bytes:
    """Head as JSON with its length before it, then the content as it is."""
    parts = {field.name: getattr(question, field.name) for field in fields(question) if field.name != "content"}
    head = json.dumps(parts).encode()
    return LENGTH.pack(len(head)) + head + question.content


def decode_question(frame: bytes) -> Question:
    """The inverse of `encode_question`."""
    start = LENGTH.size + LENGTH.unpack_from(frame)[0]
    return Question(**json.loads(frame[LENGTH.size : start]), content=frame[start:])


def encode_answer(answer: Prepared | IngestFailure) -> bytes:
    """One JSON object."""
    if isinstance(answer, IngestFailure):
        return json.dumps({"failure": [answer.code, answer.reason, answer.message]}).encode()
    chunks = [[c.chunk_id, c.text, c.context, c.heading_path, c.page, c.start, c.end] for c in answer.chunks]
    head = {
        "title": answer.title,
        "media_type": answer.media_type,
        "language": answer.language,
        "licence": answer.licence,
        "signature": answer.signature.hex(),
    }
    return json.dumps({**head, "chunks": chunks}).encode()


def decode_answer(frame: bytes) -> Prepared | IngestFailure:
    """The inverse of `encode_answer`. Raises ValueError, KeyError or TypeError where the frame is something else."""
    found = json.loads(frame)
    if "failure" in found:
        code, reason, message = found["failure"]
        return IngestFailure(FailureCode(code), str(reason), str(message))
    chunks = tuple(
        Chunk(str(chunk_id), str(text), str(context), tuple(map(str, path)), int(page), int(start), int(end))
        for chunk_id, text, context, path, page, start, end in found["chunks"]
    )
    return Prepared(
        title=str(found["title"]),
        media_type=str(found["media_type"]),
        chunks=chunks,
        language=str(found["language"]),
        licence=str(found["licence"]),
        signature=bytes.fromhex(found["signature"]),
    )
