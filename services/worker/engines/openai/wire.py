"""What the events of OpenAI's streams say, in the variants of the servers that speak it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from services.kit.errors import Unavailable
from services.worker.ports import Logprob

# What OpenAI's interface gives where a probability is not known.
UNKNOWN_LOGPROB = -9999.0
# What a token's id and a count have to be below: the contract has 32 bits for them.
_LIMIT = 1 << 32
# How vLLM writes a token that it was asked to write by its id.
_ID = "token_id:"


class Usage(NamedTuple):
    """What the server counted."""

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


class Chunk(NamedTuple):
    """One event. `ids` is None where the server gives none; `finish` is the server's word, empty before the end.

    `prompt_tokens` is above 0 in events that tell of the prompt's prefill, as llama.cpp's do.
    """

    text: str
    ids: list[int] | None
    finish: str
    usage: Usage | None
    logprobs: tuple[Logprob, ...]
    prompt_tokens: int


def to_chunk(event: Mapping[str, Any], alternatives: int | None) -> Chunk:
    """`alternatives` is how many of them were asked for; None: no log probabilities."""
    choices = event.get("choices")
    choice = choices[0] if choices else {}
    text = choice.get("text")
    if text is None:
        # Reasoning that a server keeps apart from the answer is no part of it.
        text = (choice.get("delta") or {}).get("content") or ""
    if not text.isascii():
        # A lone surrogate, which JSON can hold, is no text.
        text = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    ids, usage = choice.get("token_ids"), event.get("usage")
    if ids and [token for token in ids if _number(token) != token]:
        raise Unavailable("the upstream gave token ids that cannot be any", reason="ENGINE_FAILED")
    logprobs: tuple[Logprob, ...] = ()
    if alternatives is not None and choice.get("logprobs"):
        logprobs = _to_logprobs(choice["logprobs"], ids, alternatives)
    return Chunk(
        text=text,
        ids=ids,
        finish=choice.get("finish_reason") or "",
        usage=_to_usage(usage) if usage else None,
        logprobs=logprobs,
        prompt_tokens=_number((event.get("prompt_progress") or {}).get("total")),
    )


def _to_usage(usage: Mapping[str, Any]) -> Usage:
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
    return Usage(_number(usage.get("prompt_tokens")), _number(cached), _number(usage.get("completion_tokens")))


def _number(value: object) -> int:
    """A count or an id, as the contract can carry it; 0 for anything else."""
    return value if type(value) is int and 0 <= value < _LIMIT else 0


def _to_logprobs(found: Mapping[str, Any], ids: list[int] | None, alternatives: int) -> tuple[Logprob, ...]:
    """Either of OpenAI's two forms. Ids that the server does not tell are 0."""
    if (content := found.get("content")) is not None:
        return tuple(_from_content(item, alternatives) for item in content)
    tokens, values = found.get("tokens") or [], found.get("token_logprobs") or []
    tops = found.get("top_logprobs") or [{}] * len(tokens)
    ids = ids if ids is not None and len(ids) == len(tokens) else [0] * len(tokens)
    return tuple(
        _from_lists(token, text, value, top or {}, alternatives)
        for token, text, value, top in zip(ids, tokens, values, tops, strict=False)
    )


def _from_content(item: Mapping[str, Any], alternatives: int) -> Logprob:
    text = item.get("token") or ""
    if raw := item.get("bytes"):
        text = bytes(raw).decode(errors="replace")
    others = (item.get("top_logprobs") or [])[:alternatives]
    found = tuple(_from_content(other, 0) for other in others)
    return Logprob(_number(item.get("id")), text, _value(item.get("logprob")), found)


def _from_lists(token: int, text: str, value: float | None, top: Mapping[str, float], alternatives: int) -> Logprob:
    best = sorted(top.items(), key=lambda pair: -_value(pair[1]))[:alternatives]
    others = (_from_text(other, score) for other, score in best)
    # Where texts stand for tokens, only the one that was taken is known.
    return Logprob(
        token,
        text,
        _value(value),
        tuple(replace(other, token_id=token) if other.text == text else other for other in others),
    )


def _from_text(text: str, value: float) -> Logprob:
    """A token by its text, or by its id where the server was asked for that."""
    token = text.removeprefix(_ID)
    return Logprob(_number(int(token)) if token != text and token.isdecimal() else 0, text, _value(value))


def _value(logprob: float | None) -> float:
    return UNKNOWN_LOGPROB if logprob is None else max(float(logprob), UNKNOWN_LOGPROB)
