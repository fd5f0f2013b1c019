"""The fields of a request's body: sampling and structure in each server's words. Stop strings are the worker's work."""

import json
import re
from typing import Any

from services.kit.errors import InvalidArgument
from services.worker.engines import grammar
from services.worker.engines.limits import SEED_LIMIT, seed_at
from services.worker.engines.openai.dialect import LLAMACPP, PLAIN, SGLANG, Dialect
from services.worker.ports import Form, Sampling, Structure

# llama.cpp reads this seed as "choose one".
_RANDOM_SEED = 0xFFFFFFFF


def sampling_fields(sampling: Sampling, dialect: Dialect, done: int, *, chat: bool) -> dict[str, Any]:
    """`done` tokens of the answer are resumed."""
    fields: dict[str, Any] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "seed": seed_at(sampling.seed, done, _RANDOM_SEED if dialect is LLAMACPP else SEED_LIMIT),
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "repetition_penalty": sampling.repetition_penalty,
    }
    if dialect is LLAMACPP:
        # Keeping all tokens is what the contract's defaults say; llama.cpp's own would not.
        fields |= {"top_k": sampling.top_k or 0, "min_p": 0.0, "repeat_penalty": fields.pop("repetition_penalty")}
        if sampling.logprobs is not None:
            # With none it would give none of the token itself either.
            fields["logprobs"] = max(1, sampling.logprobs)
    elif sampling.logprobs is not None:
        fields |= {"logprobs": True, "top_logprobs": sampling.logprobs} if chat else {"logprobs": sampling.logprobs}
    if sampling.structure is not None:
        fields |= structure_fields(sampling.structure, dialect)
    return {name: value for name, value in fields.items() if value is not None}


def structure_fields(structure: Structure, dialect: Dialect) -> dict[str, Any]:
    """Raises InvalidArgument where it is no structure, or one that this server has no words for."""
    schema = grammar.to_schema(structure) if structure.form is Form.JSON_SCHEMA else None
    if dialect is PLAIN:
        return _as_response_format(structure, schema)
    if dialect is LLAMACPP:
        return grammar.structure_fields(structure)
    if dialect is SGLANG:
        return _as_sglang(structure, schema)
    values: dict[Form, Any] = {
        Form.JSON_SCHEMA: schema,
        Form.JSON_OBJECT: True,
        Form.REGEX: structure.text,
        Form.CHOICES: list(structure.choices),
        Form.GRAMMAR: structure.text,
    }
    names = {Form.JSON_SCHEMA: "json", Form.CHOICES: "choice"}
    return {"structured_outputs": {names.get(structure.form, structure.form.value): values[structure.form]}}


def _as_sglang(structure: Structure, schema: Any) -> dict[str, Any]:
    if structure.form in (Form.JSON_SCHEMA, Form.JSON_OBJECT):
        return {"json_schema": json.dumps(schema or {"type": "object"})}
    if structure.form is Form.REGEX:
        return {"regex": structure.text}
    if structure.form is Form.CHOICES:
        return {"regex": "(" + "|".join(re.escape(choice) for choice in structure.choices) + ")"}
    return {"ebnf": structure.text}


def _as_response_format(structure: Structure, schema: Any) -> dict[str, Any]:
    """OpenAI's own field, which knows JSON alone."""
    if structure.form is Form.JSON_SCHEMA:
        wrapped = {"name": "answer", "schema": schema, "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": wrapped}}
    if structure.form is Form.JSON_OBJECT:
        return {"response_format": {"type": "json_object"}}
    message = f"this server can hold answers to JSON alone, not to a {structure.form.value}"
    raise InvalidArgument(message, reason="UNSUPPORTED", field=f"sampling.structure.{structure.form.value}")
