"""What is said over HTTP: a request's JSON, and what each event of its answer means. It reads and writes nothing."""

import json
from enum import Enum
from typing import Any

from loadtest.load.client import Target
from loadtest.load.record import OK, Record

_SAID = ("content", "reasoning_content", "reasoning", "tool_calls", "refusal")
"""What of a delta is made of tokens."""


class Dialect(Enum):
    """What is spoken over HTTP; the values are the paths."""

    OPENAI = "/v1/chat/completions"
    WEFT = "/v1/chat"


CODES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
"""The codes that HTTP statuses stand for, as Envoy maps them."""


def body(record: Record, target: Target, dialect: Dialect) -> bytes:
    """The request's JSON."""
    request = record.request
    if dialect is Dialect.OPENAI:
        fields: dict[str, Any] = {
            "model": target.model,
            "messages": [{"role": role, "content": content} for role, content in request.messages],
            "max_tokens": request.max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if request.seed is not None:
            fields["seed"] = request.seed
    else:
        sampling: dict[str, Any] = {"max_tokens": request.max_tokens}
        if request.seed is not None:
            sampling["seed"] = str(request.seed)
        fields = {
            "model": target.model,
            "messages": [{"role": f"ROLE_{role.upper()}", "content": text} for role, text in request.messages],
            "sampling": sampling,
            "session_id": request.session,
        }
    return json.dumps(fields | target.extra).encode()


def openai_event(record: Record, event: bytes, now_s: float) -> None:
    """One chunk of a chat completion. It has no index; a chunk counts as one token until usage says more."""
    at = event.find(b'"content":"')
    counted = at > 0 and event[at + 11] != 0x22
    if counted:
        record.token(now_s, -1, 1)
        if event.find(b'"finish_reason":"') < 0 and event.find(b'"usage":{') < 0:
            return
    if event == b"[DONE]":
        record.code = record.code or OK
        return
    found = _json(event)
    if found is None:
        return
    if "error" in found:
        _failed(record, found["error"])
        return
    for choice in found.get("choices") or ():
        if not counted and any((choice.get("delta") or {}).get(key) for key in _SAID):
            record.token(now_s, -1, 1)
        if choice.get("finish_reason"):
            record.reason = str(choice["finish_reason"]).upper()
    if usage := found.get("usage"):
        record.prompt_tokens = usage.get("prompt_tokens") or 0
        record.completion_tokens = usage.get("completion_tokens") or 0
        record.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0) or 0


def weft_event(record: Record, event: bytes, now_s: float) -> None:
    """One event of /v1/chat."""
    found = _json(event)
    if found is None:
        return
    if tokens := found.get("tokens"):
        count = len(tokens.get("token_ids", ()))
        if count:
            record.token(now_s, tokens.get("index", 0), count)
    elif "accepted" in found:
        record.accepted_s = record.accepted_s or now_s
        record.hosted(now_s, found["accepted"].get("worker_id", ""))
    elif "moved" in found:
        record.moves += 1
        record.hosted(now_s, found["moved"].get("to_worker_id", ""))
    elif finished := found.get("finished"):
        usage = finished.get("usage", {})
        record.code, record.worker = OK, finished.get("worker_id", "")
        record.reason = str(finished.get("reason", "")).removeprefix("FINISH_REASON_")
        record.prompt_tokens = usage.get("prompt_tokens", 0)
        record.cached_tokens = usage.get("cached_tokens", 0)
        record.counted(usage.get("completion_tokens", 0))
        record.queue_s = float(finished.get("timing", {}).get("queue", "0s").rstrip("s") or 0)
    elif failed := found.get("failed"):
        _failed(record, failed)


def _failed(record: Record, error: Any) -> None:
    fields = error if isinstance(error, dict) else {"message": str(error)}
    code = fields.get("code") or fields.get("type") or "INTERNAL"
    record.code = CODES.get(code, str(code)) if isinstance(code, int) else str(code)
    record.detail = str(fields.get("message", ""))


def _json(event: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(event)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
