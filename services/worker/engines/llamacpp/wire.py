"""llama.cpp's /completion: its request's body, and what its events say."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from services.kit.errors import InvalidArgument, Unavailable, WeftError
from services.worker.engines.grammar import structure_fields
from services.worker.ports import Logprob, Sampling, Work

# llama.cpp reads this seed as "choose one".
RANDOM_SEED = 0xFFFFFFFF
# What OpenAI's interface gives where a probability is not known.
UNKNOWN_LOGPROB = -9999.0
# Fields of the events that are read; the others would repeat the prompt and all settings at the end.
_FIELDS = ["tokens", "tokens_predicted", "stop", "stop_type", "completion_probabilities", "timings", "prompt_progress"]


class Stop(Enum):
    """Whether and why llama.cpp stopped; the values are its own."""

    GOES_ON = "none"
    END_OF_ANSWER = "eos"
    LIMIT = "limit"


Token = tuple[int, Logprob | None]


@dataclass(frozen=True, slots=True)
class Chunk:
    """One event. `predicted` counts this call's tokens so far, those with an unknown id too.

    `text` is theirs since the last event; it is asked for with structures alone.
    """

    tokens: list[Token]
    predicted: int
    cached: int
    progressed: bool
    stop: Stop
    text: str = ""


def completion_body(
    work: Work, prompt: list[int], ids: list[int], count: int, adapters: tuple[str, ...], *, stream: bool
) -> dict[str, Any]:
    """Asks for at most `count` tokens after `prompt` and the answer's `ids`. Stop strings are the worker's own work.

    Noise is llama.cpp's, begun anew at each call: so the seed moves with the place in the answer, lest the same noise
    come twice.
    """
    sampling = work.sampling
    body: dict[str, Any] = {
        "prompt": prompt + ids,
        "n_predict": count,
        "stream": stream,
        "cache_prompt": True,
        "return_tokens": True,
        "return_progress": stream,
        "response_fields": _FIELDS,
        "samplers": list(_samplers(sampling)),
        "top_k": sampling.top_k or 0,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": None if sampling.seed is None else (sampling.seed + len(ids)) % RANDOM_SEED,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "repeat_penalty": sampling.repetition_penalty,
        "n_probs": None if sampling.logprobs is None else max(1, sampling.logprobs),
    }
    if adapters:
        # Each request says it of every adapter; what it leaves out would have its whole weight.
        body["lora"] = [{"id": at, "scale": float(name == work.adapter)} for at, name in enumerate(adapters)]
    if sampling.structure is not None:
        body |= {"response_fields": [*_FIELDS, "content"], **structure_fields(sampling.structure)}
    return {name: value for name, value in body.items() if value is not None}


def _samplers(sampling: Sampling) -> Iterator[str]:
    """Those that can change anything, in llama.cpp's order: the others go through the whole vocabulary all the same."""
    yield "penalties"
    # Where a value is not given, it is the model's own.
    if sampling.temperature is None or sampling.temperature > 0.0:
        if sampling.top_k:
            yield "top_k"
        if sampling.top_p is None or sampling.top_p < 1.0:
            yield "top_p"
    yield "temperature"


def unknown_logprob(token: int) -> Logprob:
    """What stands in the place of one that llama.cpp does not give: where a token ends in the middle of a character."""
    return Logprob(token, "\ufffd", UNKNOWN_LOGPROB)


def to_refusal(status: int, _headers: Mapping[str, str], body: bytes) -> WeftError:
    """The error of an answer whose status is not 200, with llama.cpp's own words."""
    try:
        message = str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        message = f"status {status}"
    if not 400 <= status < 500:
        return Unavailable(f"llama.cpp failed: {message}", reason="ENGINE_FAILED")
    field = "sampling.structure" if "grammar" in message.lower() else "prompt"
    return InvalidArgument(f"llama.cpp refuses the request: {message}", reason="ENGINE_REFUSED", field=field)


def to_chunk(event: dict[str, Any], alternatives: int | None) -> Chunk:
    """`alternatives` is how many of them were asked for; None: no log probabilities."""
    progress = event.get("prompt_progress")
    ids = event.get("tokens") or []
    logprobs: list[Logprob | None] = [None] * len(ids)
    if alternatives is not None:
        logprobs[:] = _align(ids, event.get("completion_probabilities") or [], alternatives)
    stopped = event.get("stop", False)
    return Chunk(
        tokens=[] if progress else list(zip(ids, logprobs, strict=False)),
        predicted=event.get("tokens_predicted", 0),
        cached=(progress or {}).get("cache", 0) or (event.get("timings") or {}).get("cache_n", 0),
        progressed=progress is not None,
        text=event.get("content") or "",
        stop=(Stop.END_OF_ANSWER if event.get("stop_type") == "eos" else Stop.LIMIT) if stopped else Stop.GOES_ON,
    )


def _align(ids: list[int], items: list[dict[str, Any]], alternatives: int) -> Iterator[Logprob]:
    """One for each token. llama.cpp has none for a token that ends in the middle of a character."""
    left = iter(items)
    item = next(left, None)
    for token in ids:
        if item is not None and item["id"] == token:
            yield _to_logprob(item, alternatives)
            item = next(left, None)
        else:
            yield unknown_logprob(token)


def _to_logprob(item: dict[str, Any], alternatives: int) -> Logprob:
    others = (item.get("top_logprobs") or [])[:alternatives]
    text = bytes(item.get("bytes") or b"").decode(errors="replace")
    return Logprob(int(item["id"]), text, float(item["logprob"]), tuple(_to_logprob(other, 0) for other in others))
