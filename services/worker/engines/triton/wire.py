"""A request as the vLLM backend's tensors, and what its responses say. It knows no engine and no call."""

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tritonclient.grpc as triton

from services.kit.errors import Unavailable
from services.worker.engines.limits import seed_at
from services.worker.engines.triton.contract import Contract
from services.worker.ports import Form, Logprob, Reason, Sampling, Structure

# What OpenAI's interface gives where a probability is not known.
UNKNOWN_LOGPROB = -9999.0
# vLLM's own names for why an answer ended, as the backend writes them; None while it goes on.
_REASONS = {b"stop": Reason.STOP, b"length": Reason.LENGTH}
_UNFINISHED = (b"None", b"")


@dataclass(frozen=True, slots=True)
class Chunk:
    """One response. `count` is None where the model does not count; `prompt_tokens` 0 where it does not say."""

    text: bytes
    count: int | None
    prompt_tokens: int
    reason: Reason | None
    logprobs: bytes


def to_inputs(contract: Contract, text: str, parameters: str, *, logprobs: bool) -> list[Any]:
    """The tensors of one request."""
    flags = [*contract.asked_flags, *(["return_logprobs"] if logprobs else [])]
    return [
        _tensor(contract, "text_input", "BYTES", np.array([text.encode()], dtype=np.object_)),
        _tensor(contract, "sampling_parameters", "BYTES", np.array([parameters.encode()], dtype=np.object_)),
        *(_tensor(contract, name, "BOOL", np.array([True])) for name in flags),
    ]


def _tensor(contract: Contract, name: str, kind: str, value: Any) -> Any:
    shape = [1, 1] if contract.batched else [1]
    tensor = triton.InferInput(name, shape, kind)
    tensor.set_data_from_numpy(value.reshape(shape))
    return tensor


def to_parameters(sampling: Sampling, max_tokens: int, resumed: int, structure_key: str, adapter: str) -> str:
    """vLLM's SamplingParams as JSON. Stop strings are the worker's own work."""
    parameters: dict[str, Any] = {
        "max_tokens": max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "seed": seed_at(sampling.seed, resumed),
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "repetition_penalty": sampling.repetition_penalty,
        "logprobs": sampling.logprobs,
        "lora_name": adapter or None,
    }
    if sampling.structure is not None:
        # The backend parses this one a second time.
        parameters[structure_key] = json.dumps(_structure(sampling.structure))
    return json.dumps({name: value for name, value in parameters.items() if value is not None})


def _structure(structure: Structure) -> dict[str, Any]:
    """vLLM's StructuredOutputsParams; the backend wants a schema as an object."""
    if structure.form is Form.JSON_SCHEMA:
        return {"json": json.loads(structure.text)}
    if structure.form is Form.JSON_OBJECT:
        return {"json_object": True}
    if structure.form is Form.CHOICES:
        return {"choice": list(structure.choices)}
    return {structure.form.value: structure.text}


def to_chunk(response: Any) -> Chunk:
    """Reads a ModelInferResponse. Raises Unavailable where it is not what the contract says, or vLLM gave up."""
    found = dict(zip((output.name for output in response.outputs), response.raw_output_contents, strict=False))
    finish = _first_element(found.get("finish_reason", b""))
    reason = _REASONS.get(finish)
    if reason is None and finish not in _UNFINISHED:
        message = f"Triton's model broke the answer off: {finish.decode(errors='replace')}"
        raise Unavailable(message, reason="ENGINE_FAILED")
    counted = found.get("num_output_tokens")
    return Chunk(
        text=_first_element(found.get("text_output", b"")),
        count=None if counted is None else int.from_bytes(counted[:4], "little"),
        prompt_tokens=int.from_bytes(found.get("num_input_tokens", b"")[:4], "little"),
        reason=reason,
        logprobs=_first_element(found.get("logprobs", b"")),
    )


def _first_element(data: bytes) -> bytes:
    """The first string of a BYTES tensor: four bytes of length before each."""
    return data[4 : 4 + int.from_bytes(data[:4], "little")]


def to_logprobs(data: bytes, count: int, alternatives: int) -> tuple[Logprob, ...]:
    """One for each of `count` tokens, with so many alternatives; those that the model left out are unknown.

    Ids are 0 here as everywhere in this engine's answers: it promises nothing of its model's vocabulary.
    """
    tokens = json.loads(data) if data else None
    found = [_to_logprob(token, alternatives) for token in (tokens or [])[:count]]
    return (*found, *(Logprob(0, "", UNKNOWN_LOGPROB) for _ in range(count - len(found))))


def _to_logprob(token: dict[str, Any], alternatives: int) -> Logprob:
    """vLLM puts the chosen token first, whatever its rank."""
    by_rank = sorted(token.values(), key=lambda entry: int(entry["rank"]))
    others = tuple(_entry(entry) for entry in by_rank[:alternatives])
    return replace(_entry(next(iter(token.values()))), alternatives=others)


def _entry(entry: dict[str, Any]) -> Logprob:
    return Logprob(0, entry.get("decoded_token") or "", float(entry["logprob"]))
