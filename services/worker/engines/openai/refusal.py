"""What an upstream's refusals and failures mean, in the mesh's own errors."""

import json
import re
from collections.abc import Mapping
from typing import Any

from services.kit.errors import Exhausted, InvalidArgument, Unavailable, WeftError

# The longest delay that is believed.
DELAY_LIMIT_S = 3600.0
_WORDS_LIMIT = 500
# Where no parameter is named, the words have to tell.
_TOO_LONG = re.compile(r"context.{0,20}(size|length|window)|too (long|large)", re.I)
_STRUCTURE = re.compile(r"grammar|schema|regex|structured|guided", re.I)
_SAMPLING = {
    **{name: name for name in ("temperature", "top_p", "top_k", "seed", "stop", "max_tokens", "logprobs")},
    **{name: name for name in ("presence_penalty", "frequency_penalty", "repetition_penalty")},
    **dict.fromkeys(("structured_outputs", "response_format", "json_schema", "grammar", "regex"), "structure"),
    "top_logprobs": "logprobs",
    "max_completion_tokens": "max_tokens",
    "n_predict": "max_tokens",
}


class UpstreamError(WeftError):
    """The upstream cannot be used as it is set; the worker does not start."""

    reason_default = "UPSTREAM_UNUSABLE"


def to_refusal(status: int, headers: Mapping[str, str], body: bytes) -> WeftError:
    """The error of an answer whose status is not 200, with the server's own words."""
    words, param = _read(body)
    said = words or f"status {status}"
    delay_s = _delay_s(headers.get("retry-after", ""))
    if status in (401, 403):
        message = f"the upstream refuses this worker's key ({said}): set worker.openai.api_key"
        return Unavailable(message, reason="UPSTREAM_KEY_REFUSED")
    if status == 404:
        # The client chose nothing here: the path and the model's name are this worker's own.
        return Unavailable(f"the upstream does not know what it was asked for: {said}", reason="UPSTREAM_NOT_FOUND")
    if status == 429:
        return Exhausted(f"the upstream is full: {said}", reason="UPSTREAM_FULL", retry_delay_s=delay_s)
    if status in (400, 405, 413, 415, 422):
        if _TOO_LONG.search(said):
            message = f"the prompt is longer than the upstream's context: {said}"
            return InvalidArgument(message, reason="PROMPT_TOO_LONG", field="prompt")
        name = _SAMPLING.get(param) or ("structure" if _STRUCTURE.search(said) else "")
        field = f"sampling.{name}" if name else "prompt"
        return InvalidArgument(f"the upstream refuses the request: {said}", reason="ENGINE_REFUSED", field=field)
    reason = "UPSTREAM_UNAVAILABLE" if status == 503 else "ENGINE_FAILED"
    return Unavailable(f"the upstream failed: {said}", reason=reason, retry_delay_s=delay_s)


def to_stream_error(event: Mapping[str, Any]) -> WeftError | None:
    """The error that an event of a stream says, if it says one."""
    error = event.get("error")
    if not error:
        return None
    code = error.get("code") if isinstance(error, dict) else None
    status = code if isinstance(code, int) and code >= 400 else 500
    return to_refusal(status, {}, json.dumps(event).encode())


def _read(body: bytes) -> tuple[str, str]:
    """The server's sentence and the parameter that it names; empty where it says none."""
    try:
        answer = json.loads(body)
    except ValueError:
        return body[:_WORDS_LIMIT].decode(errors="replace").strip(), ""
    found = answer.get("error", answer) if isinstance(answer, dict) else answer
    if isinstance(found, dict):
        words = found.get("message") or found.get("detail") or found.get("error") or ""
        return str(words)[:_WORDS_LIMIT], str(found.get("param") or "").split(".")[0]
    return str(found)[:_WORDS_LIMIT], ""


def _delay_s(header: str) -> float | None:
    """Retry-After in seconds; its form as a date is not read."""
    try:
        delay_s = float(header)
    except ValueError:
        return None
    return min(delay_s, DELAY_LIMIT_S) if delay_s >= 0 else None
