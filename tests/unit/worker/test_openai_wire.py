"""What the openai engine says to each kind of server, and what it reads of their answers: tables."""

from typing import Any

import pytest

from services.kit.errors import InvalidArgument
from services.worker.engines.limits import SEED_LIMIT
from services.worker.engines.openai.body import sampling_fields
from services.worker.engines.openai.dialect import LLAMACPP, PLAIN, SGLANG, VLLM, Dialect
from services.worker.engines.openai.refusal import to_refusal
from services.worker.engines.openai.watch import read_gauges
from services.worker.engines.openai.wire import UNKNOWN_LOGPROB, Usage, to_chunk
from services.worker.ports import Form, Logprob, Sampling, Structure

SCHEMA = Structure(Form.JSON_SCHEMA, '{"type": "object"}')
OBJECT = Structure(Form.JSON_OBJECT)
REGEX = Structure(Form.REGEX, "a+")
CHOICES = Structure(Form.CHOICES, choices=("a.b", "c"))
GRAMMAR = Structure(Form.GRAMMAR, 'root ::= "a"')


@pytest.mark.parametrize(
    ("dialect", "sampling", "done", "fields"),
    [
        pytest.param(VLLM, Sampling(), 0, {}, id="the-server's-defaults"),
        pytest.param(VLLM, Sampling(temperature=0.0, top_p=0.5), 0, {"temperature": 0.0, "top_p": 0.5}, id="values"),
        pytest.param(VLLM, Sampling(seed=7), 5, {"seed": 12}, id="the-seed-moves-with-the-place"),
        pytest.param(VLLM, Sampling(seed=SEED_LIMIT - 1), 5, {"seed": 4}, id="the-seed-stays-in-range"),
        pytest.param(PLAIN, Sampling(seed=SEED_LIMIT - 1), 1, {"seed": 0}, id="for-any-server"),
        pytest.param(VLLM, Sampling(seed=-6), 5, {"seed": SEED_LIMIT - 1}, id="vllm-reads-minus-one-as-no-seed"),
        pytest.param(VLLM, Sampling(repetition_penalty=1.2), 0, {"repetition_penalty": 1.2}, id="penalty"),
        pytest.param(
            LLAMACPP,
            Sampling(repetition_penalty=1.2, seed=0xFFFFFFFF, logprobs=0),
            1,
            {"repeat_penalty": 1.2, "top_k": 0, "min_p": 0.0, "seed": 1, "logprobs": 1},
            id="llama.cpp's-names",
        ),
        pytest.param(VLLM, Sampling(logprobs=0), 0, {"logprobs": 0}, id="logprobs"),
        pytest.param(VLLM, Sampling(stop=("x",)), 0, {}, id="stop-strings-are-the-worker's"),
    ],
)
def test_sampling(dialect: Dialect, sampling: Sampling, done: int, fields: dict[str, Any]) -> None:
    assert sampling_fields(sampling, dialect, done, chat=False) == fields


def test_a_chats_logprobs_have_other_names() -> None:
    assert sampling_fields(Sampling(logprobs=2), PLAIN, 0, chat=True) == {"logprobs": True, "top_logprobs": 2}


@pytest.mark.parametrize(
    ("dialect", "structure", "fields"),
    [
        pytest.param(VLLM, SCHEMA, {"structured_outputs": {"json": {"type": "object"}}}, id="vllm-schema"),
        pytest.param(VLLM, OBJECT, {"structured_outputs": {"json_object": True}}, id="vllm-object"),
        pytest.param(VLLM, REGEX, {"structured_outputs": {"regex": "a+"}}, id="vllm-regex"),
        pytest.param(VLLM, CHOICES, {"structured_outputs": {"choice": ["a.b", "c"]}}, id="vllm-choices"),
        pytest.param(VLLM, GRAMMAR, {"structured_outputs": {"grammar": 'root ::= "a"'}}, id="vllm-grammar"),
        pytest.param(LLAMACPP, SCHEMA, {"json_schema": {"type": "object"}}, id="llamacpp-schema"),
        pytest.param(LLAMACPP, REGEX, {"grammar": "%llguidance {}\nstart: /a+/"}, id="llamacpp-regex"),
        pytest.param(LLAMACPP, CHOICES, {"grammar": 'root ::= "a.b" | "c"'}, id="llamacpp-choices"),
        pytest.param(SGLANG, SCHEMA, {"json_schema": '{"type": "object"}'}, id="sglang-schema"),
        pytest.param(SGLANG, CHOICES, {"regex": r"(a\.b|c)"}, id="sglang-choices"),
        pytest.param(SGLANG, GRAMMAR, {"ebnf": 'root ::= "a"'}, id="sglang-grammar"),
        pytest.param(PLAIN, OBJECT, {"response_format": {"type": "json_object"}}, id="plain-object"),
    ],
)
def test_structures(dialect: Dialect, structure: Structure, fields: dict[str, Any]) -> None:
    found = sampling_fields(Sampling(structure=structure), dialect, 0, chat=False)
    assert {name: found[name] for name in fields} == fields


def test_a_schema_that_is_no_json() -> None:
    with pytest.raises(InvalidArgument, match="no JSON"):
        sampling_fields(Sampling(structure=Structure(Form.JSON_SCHEMA, "{")), VLLM, 0, chat=False)


def test_a_chunk_with_ids() -> None:
    event = {
        "choices": [
            {
                "text": " a",
                "token_ids": [5],
                "logprobs": {
                    "tokens": [" a"],
                    "token_logprobs": [-0.5],
                    "top_logprobs": [{" a": -0.5, "b": -1.0, "c": float("-inf")}],
                },
            }
        ]
    }
    chunk = to_chunk(event, 2)
    assert (chunk.text, chunk.ids, chunk.finish) == (" a", [5], "")
    assert chunk.logprobs == (Logprob(5, " a", -0.5, (Logprob(5, " a", -0.5), Logprob(0, "b", -1.0))),)


def test_a_chats_chunk_with_bytes() -> None:
    content = [{"token": "?", "bytes": [0xE6], "logprob": None, "top_logprobs": []}]
    chunk = to_chunk({"choices": [{"delta": {"content": "x"}, "logprobs": {"content": content}}]}, 0)
    assert (chunk.text, chunk.ids) == ("x", None)
    assert chunk.logprobs == (Logprob(0, "\ufffd", UNKNOWN_LOGPROB),)


def test_the_end() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}
    assert to_chunk({"choices": [], "usage": usage}, None).usage == Usage(9, 4, 2)
    assert to_chunk({"choices": [], "usage": {**usage, "prompt_tokens_details": None}}, None).usage == Usage(9, 0, 2)


def test_half_a_surrogate_is_no_text() -> None:
    assert "\ud83d" not in to_chunk({"choices": [{"text": "a\ud83d"}]}, None).text


@pytest.mark.parametrize(
    ("words", "reason", "field"),
    [
        pytest.param("maximum context length is 8", "PROMPT_TOO_LONG", "prompt", id="vllm-context"),
        pytest.param("request exceeds the available context size", "PROMPT_TOO_LONG", "prompt", id="llamacpp-context"),
        pytest.param("Prompt contains invalid tokens", "ENGINE_REFUSED", "prompt", id="token"),
        pytest.param("failed to parse grammar", "ENGINE_REFUSED", "sampling.structure", id="grammar"),
    ],
)
def test_refusals_in_words(words: str, reason: str, field: str) -> None:
    error = to_refusal(400, {}, b'{"error": {"message": "%s"}}' % words.encode())
    assert (error.reason, error.field) == (reason, field)


def test_gauges_of_several_engines_are_added_up() -> None:
    text = """# HELP vllm:num_requests_running x
vllm:num_requests_running{engine="0"} 3.0
vllm:num_requests_running{engine="1"} 2.0
vllm:num_requests_waiting{engine="0"} 1.0
vllm:num_requests_waiting_by_reason{reason="capacity"} 9.0
vllm:kv_cache_usage_perc{engine="0"} 0.25
vllm:kv_cache_usage_perc{engine="1"} 0.5
vllm:generation_tokens_total{engine="0"} 100.0
"""
    reading = read_gauges(text, VLLM.gauges, 99.0)
    assert (reading.running, reading.waiting, reading.kv_usage, reading.moved) == (5, 1, 0.5, True)
    assert not read_gauges(text, VLLM.gauges, 100.0).moved
