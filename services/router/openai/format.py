"""OpenAI's response bodies. What is the same in every chunk of a stream is written once."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii as quote
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from services.kit.errors import WeftError
from services.router.core.chat import FinishReason, Usage
from services.router.core.grounding import Grounding
from services.router.events import Finished
from services.router.wire import grounding_message
from weft.chat.v1.chat_pb2 import TokenLogprob
from weft.retriever.v1.retriever_pb2 import Passage

DONE = b"data: [DONE]\n\n"
ALIVE = b": still at it\n\n"
_FINISH = {
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.DEADLINE: "length",
    FinishReason.CANCELLED: "stop",
    FinishReason.NOTHING_FOUND: "stop",
}


def usage_json(usage: Usage) -> dict[str, Any]:
    """OpenAI's usage object."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def sources_json(passages: Sequence[Passage]) -> list[dict[str, Any]]:
    """Passages by the numbers that the answer cites them with; fields have the names of retriever.proto."""
    return [{"number": number, **_plain(passage)} for number, passage in enumerate(passages, 1)]


def grounding_json(grounding: Grounding) -> dict[str, Any]:
    """How well an answer rests on its sources; fields have the names of router.proto."""
    return _plain(grounding_message(grounding), always=True)


def _plain(message: Message, *, always: bool = False) -> dict[str, Any]:
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=always)


def error_json(error: WeftError) -> dict[str, Any]:
    """An error as OpenAI's clients read it out of a stream."""
    return {"error": {"message": error.message, "type": error.reason.lower(), "code": error.reason.lower()}}


@dataclass(frozen=True, slots=True)
class Shape:
    """Where chat and text completions differ: names, and where the text stands."""

    id_prefix: str
    whole: str
    chunk: str
    is_chat: bool

    def delta(self, text: str) -> bytes:
        """A chunk's choice up to its text: `"delta":{"content":"…"}` or `"text":"…"`."""
        quoted = quote(text).encode()
        return b'"delta":{"content":' + quoted + b"}" if self.is_chat else b'"text":' + quoted

    def body(self, text: str) -> dict[str, Any]:
        """A whole answer's choice."""
        return {"message": {"role": "assistant", "content": text}} if self.is_chat else {"text": text}

    def logprobs(self, entries: Sequence[TokenLogprob]) -> dict[str, Any] | None:
        """OpenAI's logprobs object, in the form of each of the two."""
        if not entries:
            return None
        if self.is_chat:
            return {"content": [_chat_logprob(entry) for entry in entries]}
        return {
            "tokens": [entry.text for entry in entries],
            "token_logprobs": [entry.logprob for entry in entries],
            "top_logprobs": [{a.text: a.logprob for a in entry.alternatives} for entry in entries],
            "text_offset": [],
        }


CHAT = Shape("chatcmpl-", "chat.completion", "chat.completion.chunk", is_chat=True)
TEXT = Shape("cmpl-", "text_completion", "text_completion", is_chat=False)


def _chat_logprob(entry: TokenLogprob) -> dict[str, Any]:
    found = {"token": entry.text, "logprob": entry.logprob, "bytes": list(entry.text.encode())}
    return found | {"top_logprobs": [_chat_logprob(a) for a in entry.alternatives]}


class Chunks:
    """Writes the chunks of one stream as server-sent events."""

    def __init__(self, shape: Shape, request_id: str, model: str, created_s: int) -> None:
        self._shape = shape
        head = {
            "id": f"{shape.id_prefix}{request_id}",
            "object": shape.chunk,
            "created": created_s,
            "model": model,
        }
        self._head = json.dumps(head, separators=(",", ":"))[:-1].encode()
        self._before = b"data: " + self._head + b',"choices":[{"index":0,'
        self._empty = b'"delta":{}' if shape.is_chat else b'"text":""'
        self._after = b',"finish_reason":null}]}\n\n'

    def first(self) -> bytes:
        """The chunk that says who speaks; text completions have none."""
        if not self._shape.is_chat:
            return b""
        return self._before + b'"delta":{"role":"assistant","content":""}' + self._after

    def tokens(self, text: str, logprobs: Sequence[TokenLogprob]) -> bytes:
        """A chunk of text."""
        if not logprobs:
            return self._before + self._shape.delta(text) + self._after
        entries = json.dumps(self._shape.logprobs(logprobs)).encode()
        return self._before + self._shape.delta(text) + b',"logprobs":' + entries + self._after

    def found(self, passages: Sequence[Passage]) -> bytes:
        """A chunk without text that holds the sources; its choice is there for clients that rely on one."""
        more = json.dumps({"sources": sources_json(passages)}).encode()
        return self._before + self._empty + b',"finish_reason":null}],"retrieval":' + more + b"}\n\n"

    def last(self, reason: FinishReason, grounding: Grounding | None) -> bytes:
        """The chunk that says why it ended, and how well the answer rests on its sources, where it has any."""
        more = b""
        if grounding is not None:
            more = b',"retrieval":' + json.dumps({"grounding": grounding_json(grounding)}).encode()
        reason_json = b',"finish_reason":"' + _FINISH[reason].encode() + b'"}]'
        return self._before + self._empty + reason_json + more + b"}\n\n"

    def usage(self, usage: Usage) -> bytes:
        """The chunk of usage, where it was asked for."""
        numbers = json.dumps(usage_json(usage)).encode()
        return b"data: " + self._head + b',"choices":[],"usage":' + numbers + b"}\n\n"

    def failed(self, error: WeftError) -> bytes:
        """What stands in place of the rest where an answer failed after its first chunk."""
        return b"data: " + json.dumps(error_json(error)).encode() + b"\n\n"


def whole_json(
    shape: Shape,
    request_id: str,
    model: str,
    created_s: int,
    text: str,
    logprobs: list[TokenLogprob],
    finished: Finished,
    passages: Sequence[Passage] | None,
) -> bytes:
    """An answer that is not streamed; `passages` is None where no retrieval was asked for."""
    choice = {"index": 0, **shape.body(text), "logprobs": shape.logprobs(logprobs)}
    choice["finish_reason"] = _FINISH[finished.reason]
    body = {
        "id": f"{shape.id_prefix}{request_id}",
        "object": shape.whole,
        "created": created_s,
        "model": model,
        "choices": [choice],
        "usage": usage_json(finished.usage),
    }
    if passages is not None and finished.grounding is not None:
        body["retrieval"] = {"sources": sources_json(passages), "grounding": grounding_json(finished.grounding)}
    return json.dumps(body).encode()


def model_json(name: str, created_s: int) -> dict[str, Any]:
    """OpenAI's model object."""
    return {"id": name, "object": "model", "created": created_s, "owned_by": "weft"}
