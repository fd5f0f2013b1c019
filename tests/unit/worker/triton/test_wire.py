"""What goes to the vLLM backend and what comes back, without a server."""

import json

import pytest
from tritonclient.grpc import service_pb2

from services.kit.errors import Unavailable
from services.worker.engines.limits import SEED_LIMIT
from services.worker.engines.triton.failures import from_text
from services.worker.engines.triton.readings import MetricsError, Reading, parse_metrics
from services.worker.engines.triton.wire import (
    UNKNOWN_LOGPROB,
    Chunk,
    to_chunk,
    to_logprobs,
    to_parameters,
)
from services.worker.ports import Form, Reason, Sampling, Structure


@pytest.mark.parametrize(
    ("sampling", "resumed", "adapter", "expected"),
    [
        pytest.param(Sampling(), 0, "", {}, id="defaults-are-vllms"),
        pytest.param(Sampling(stop=("x",)), 0, "", {}, id="stop-strings-are-our-own-work"),
        pytest.param(Sampling(seed=7), 0, "", {"seed": 7}, id="seed"),
        pytest.param(Sampling(seed=7), 5, "", {"seed": 12}, id="seed-moves-with-the-place"),
        pytest.param(Sampling(seed=SEED_LIMIT - 1), 3, "", {"seed": 2}, id="seed-stays-in-range"),
        pytest.param(Sampling(logprobs=0), 0, "", {"logprobs": 0}, id="logprob-of-the-token-alone"),
        pytest.param(Sampling(temperature=0.0), 0, "a", {"temperature": 0.0, "lora_name": "a"}, id="adapter"),
        pytest.param(
            Sampling(top_p=0.5, top_k=3, presence_penalty=1.0, frequency_penalty=-1.0, repetition_penalty=1.5),
            0,
            "",
            {"top_p": 0.5, "top_k": 3, "presence_penalty": 1.0, "frequency_penalty": -1.0, "repetition_penalty": 1.5},
            id="all-others",
        ),
    ],
)
def test_parameters(sampling: Sampling, resumed: int, adapter: str, expected: dict[str, object]) -> None:
    assert json.loads(to_parameters(sampling, 9, resumed, "", adapter)) == {"max_tokens": 9, **expected}


@pytest.mark.parametrize(
    ("structure", "expected"),
    [
        pytest.param(Structure(Form.JSON_SCHEMA, '{"type": "object"}'), {"json": {"type": "object"}}, id="schema"),
        pytest.param(Structure(Form.JSON_OBJECT), {"json_object": True}, id="object"),
        pytest.param(Structure(Form.REGEX, "a+"), {"regex": "a+"}, id="regex"),
        pytest.param(Structure(Form.GRAMMAR, "root ::= x"), {"grammar": "root ::= x"}, id="grammar"),
        pytest.param(Structure(Form.CHOICES, choices=("a", "b")), {"choice": ["a", "b"]}, id="choices"),
    ],
)
def test_a_form_is_json_within_json(structure: Structure, expected: dict[str, object]) -> None:
    parameters = json.loads(to_parameters(Sampling(structure=structure), 9, 0, "guided_decoding", ""))
    assert json.loads(parameters["guided_decoding"]) == expected


def response(**outputs: bytes) -> service_pb2.ModelInferResponse:
    found = service_pb2.ModelInferResponse()
    for name, data in outputs.items():
        found.outputs.add(name=name)
        found.raw_output_contents.append(data)
    return found


def element(text: bytes) -> bytes:
    return len(text).to_bytes(4, "little") + text


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        pytest.param({}, Chunk(b"", None, 0, None, b""), id="flags-alone"),
        pytest.param({"text_output": element(b"hi")}, Chunk(b"hi", None, 0, None, b""), id="text-alone"),
        pytest.param(
            {
                "finish_reason": element(b"None"),
                "num_output_tokens": b"\x03\0\0\0",
                "num_input_tokens": b"\x01\x02\0\0",
                "text_output": element("é".encode()),
            },
            Chunk("é".encode(), 3, 513, None, b""),
            id="in-any-order",
        ),
        pytest.param({"finish_reason": element(b"length")}, Chunk(b"", None, 0, Reason.LENGTH, b""), id="length"),
        pytest.param({"finish_reason": element(b"stop")}, Chunk(b"", None, 0, Reason.STOP, b""), id="stop"),
    ],
)
def test_chunks(outputs: dict[str, bytes], expected: Chunk) -> None:
    assert to_chunk(response(**outputs)) == expected


def test_an_aborted_answer_is_no_answer() -> None:
    with pytest.raises(Unavailable, match="abort"):
        to_chunk(response(finish_reason=element(b"abort")))


def test_log_probabilities() -> None:
    token = {
        "5": {"logprob": -2.0, "rank": 3, "decoded_token": "c"},
        "9": {"logprob": -0.5, "rank": 1, "decoded_token": "a"},
        "7": {"logprob": -1.0, "rank": 2, "decoded_token": None},
    }
    first, missing = to_logprobs(json.dumps([token]).encode(), 2, 2)
    assert (first.text, first.logprob) == ("c", -2.0)
    assert [(other.text, other.logprob) for other in first.alternatives] == [("a", -0.5), ("", -1.0)]
    assert missing.logprob == UNKNOWN_LOGPROB
    assert to_logprobs(b"null", 0, 2) == ()


@pytest.mark.parametrize(
    ("text", "code", "reason"),
    [
        pytest.param(
            "Error generating stream: The decoder prompt (length 90) is longer than the maximum model length of 80.",
            "INVALID_ARGUMENT",
            "PROMPT_TOO_LONG",
            id="too-long",
        ),
        pytest.param(
            "Error generating stream: This model's maximum context length is 10 tokens.",
            "INVALID_ARGUMENT",
            "PROMPT_TOO_LONG",
            id="too-long-in-characters",
        ),
        pytest.param(
            "Error generating stream: 'NoneType' object has no attribute 'lora_name'",
            "INVALID_ARGUMENT",
            "ENGINE_REFUSED",
            id="parameters",
        ),
        pytest.param(
            "Error generating stream: temperature must be non-negative, got -1.0.",
            "INVALID_ARGUMENT",
            "ENGINE_REFUSED",
            id="a-value",
        ),
        pytest.param("LoRA feature is not enabled.", "INVALID_ARGUMENT", "ENGINE_REFUSED", id="no-adapters"),
        pytest.param("Exceeds maximum queue size", "RESOURCE_EXHAUSTED", "ENGINE_FULL", id="full"),
        pytest.param("Request was cancelled", "UNAVAILABLE", "ENGINE_FAILED", id="not-by-us"),
        pytest.param("Stub process 'm_0_0' is not healthy.", "UNAVAILABLE", "ENGINE_FAILED", id="model-died"),
        pytest.param("Request for unknown model: 'm' is not found", "UNAVAILABLE", "ENGINE_FAILED", id="model-left"),
    ],
)
def test_errors_within_a_stream(text: str, code: str, reason: str) -> None:
    error = from_text(text)
    assert (error.code.name, error.reason) == (code, reason)


METRICS = """# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{model="m",version="1"} 3
vllm:num_requests_running{model="other",version="1"} 30
vllm:num_requests_waiting{model="m",version="1"} 2
vllm:gpu_cache_usage_perc{model="m",version="1"} 0.25
nv_inference_pending_request_count{model="m",version="1"} 4
"""


def test_metrics() -> None:
    assert parse_metrics(METRICS, "here", "m") == Reading(3, 6, 0.25)
    bare = "\n".join(line for line in METRICS.splitlines() if "vllm" not in line)
    assert parse_metrics(bare, "here", "m") == Reading(None, 4, 0.0)


@pytest.mark.parametrize("value", ["+Inf", "NaN", "1e999"])
def test_metrics_that_are_no_numbers_count_as_nothing(value: str) -> None:
    text = f'vllm:num_requests_running{{model="m"}} 3\nvllm:num_requests_waiting{{model="m"}} {value}\n'
    assert parse_metrics(text, "here", "m") == Reading(3, 0, 0.0)


@pytest.mark.parametrize("text", ["", "<html>", 'vllm:num_requests_running{model="m" 3'], ids=["empty", "html", "cut"])
def test_metrics_that_are_none(text: str) -> None:
    with pytest.raises(MetricsError, match="here"):
        parse_metrics(text, "here", "m")
