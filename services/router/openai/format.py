"""OpenAI's response bodies. What is the same in every chunk of a stream is written once."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii as quote
from typing import Any

from services.kit.errors import WeftError
from services.router.core.chat import FinishReason, Usage
from weft.chat.v1.chat_pb2 import TokenLogprob

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

    def last(self, reason: FinishReason) -> bytes:
        """The chunk that says why it ended."""
        empty = b'"delta":{}' if self._shape.is_chat else b'"text":""'
        return self._before + empty + b',"finish_reason":"' + _FINISH[reason].encode() + b'"}]}\n\n'

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
    reason: FinishReason,
    usage: Usage,
) -> bytes:
    """An answer that is not streamed."""
    choice = {"index": 0, **shape.body(text), "logprobs": shape.logprobs(logprobs), "finish_reason": _FINISH[reason]}
    body = {
        "id": f"{shape.id_prefix}{request_id}",
        "object": shape.whole,
        "created": created_s,
        "model": model,
        "choices": [choice],
        "usage": usage_json(usage),
    }
    return json.dumps(body).encode()


def model_json(name: str, created_s: int) -> dict[str, Any]:
    """OpenAI's model object."""
    return {"id": name, "object": "model", "created": created_s, "owned_by": "weft"}
