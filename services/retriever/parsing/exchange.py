"""What goes over a parser's pipe, both ways. JSON, since a parser that hostile bytes took over must not be believed."""

import json
from dataclasses import dataclass

from services.retriever.document import Chunk, Prepared
from services.retriever.failure import FailureCode, IngestFailure
from services.retriever.frames import LENGTH


@dataclass(frozen=True, slots=True)
class Question:
    """A document to prepare; `name` is its source or id."""

    name: str
    title: str
    media_type: str
    content: bytes


def encode_question(question: Question) -> bytes:
    """Head as JSON with its length before it, then the content as it is."""
    head = json.dumps([question.name, question.title, question.media_type]).encode()
    return LENGTH.pack(len(head)) + head + question.content


def decode_question(frame: bytes) -> Question:
    """The inverse of `encode_question`."""
    start = LENGTH.size + LENGTH.unpack_from(frame)[0]
    name, title, media_type = json.loads(frame[LENGTH.size : start])
    return Question(name, title, media_type, frame[start:])


def encode_answer(answer: Prepared | IngestFailure) -> bytes:
    """One JSON object."""
    if isinstance(answer, IngestFailure):
        return json.dumps({"failure": [answer.code, answer.reason, answer.message]}).encode()
    chunks = [[c.chunk_id, c.text, c.context, c.heading_path, c.page, c.start, c.end] for c in answer.chunks]
    return json.dumps({"title": answer.title, "media_type": answer.media_type, "chunks": chunks}).encode()


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
    return Prepared(str(found["title"]), str(found["media_type"]), chunks)
