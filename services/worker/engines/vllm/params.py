"""A request's sampling in vLLM's terms. Pure."""

from collections.abc import Mapping
from typing import Any

from services.worker.engines.vllm.asks import ASKS_KEY, asks_of
from services.worker.ports import Form, Sampling, Structure

_FORMS = {
    Form.JSON_SCHEMA: "json",
    Form.JSON_OBJECT: "json_object",
    Form.REGEX: "regex",
    Form.CHOICES: "choice",
    Form.GRAMMAR: "grammar",
}


def vllm_sampling(sampling: Sampling, defaults: Mapping[str, Any], resumed: int, room: int) -> dict[str, Any]:
    """Arguments for SamplingParams; `room` is how many tokens may come. Stop strings are the worker's own work.

    `defaults` are the model's. Keeping all tokens is what the contract says where top_k is not set.
    """
    temperature = _or(sampling.temperature, defaults.get("temperature", 1.0))
    top_p = _or(sampling.top_p, defaults.get("top_p", 1.0))
    repetition = _or(sampling.repetition_penalty, defaults.get("repetition_penalty", 1.0))
    asks = asks_of(sampling, temperature, top_p, repetition, resumed)
    found: dict[str, Any] = {
        "temperature": temperature,
        "top_p": top_p,
        "top_k": sampling.top_k or 0,
        "repetition_penalty": repetition,
        "max_tokens": room,
        "logprobs": sampling.logprobs,
    }
    if asks is not None:
        found |= {"repetition_penalty": 1.0, "extra_args": {ASKS_KEY: asks.pack()}}
        if asks.seed is not None:
            # The sampler chooses the token, and vLLM takes it.
            found |= {"temperature": 0.0, "top_p": 1.0, "top_k": 0}
    return found


def vllm_structure(structure: Structure | None) -> dict[str, Any] | None:
    """Arguments for StructuredOutputsParams."""
    if structure is None:
        return None
    value: object = structure.text
    if structure.form is Form.JSON_OBJECT:
        value = True
    elif structure.form is Form.CHOICES:
        value = list(structure.choices)
    return {_FORMS[structure.form]: value}


def _or(value: float | None, default: float) -> float:
    return default if value is None else value
