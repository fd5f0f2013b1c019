"""A request's sampling in vLLM's terms, and what is left to the worker's own sampler."""

import pytest

from services.worker.engines.vllm.asks import ASKS_KEY, Asks
from services.worker.engines.vllm.params import vllm_sampling, vllm_structure
from services.worker.ports import Form, Sampling, Structure


def test_a_request_without_a_seed_is_vllms_own() -> None:
    found = vllm_sampling(Sampling(temperature=0.7, top_k=5, repetition_penalty=1.2, logprobs=2), {}, 0, 30)
    assert found == {
        "temperature": 0.7,
        "top_p": 1.0,
        "top_k": 5,
        "repetition_penalty": 1.2,
        "max_tokens": 30,
        "logprobs": 2,
    }


def test_the_models_defaults_fill_what_is_not_set() -> None:
    defaults = {"temperature": 0.6, "top_p": 0.9, "top_k": 20, "repetition_penalty": 1.1}
    found = vllm_sampling(Sampling(), defaults, 0, 30)
    assert (found["temperature"], found["top_p"], found["repetition_penalty"]) == (0.6, 0.9, 1.1)
    assert found["top_k"] == 0, "not set keeps all tokens, as the contract says"
    assert vllm_sampling(Sampling(temperature=0.0), defaults, 0, 30)["temperature"] == 0.0


def test_a_seeded_request_is_chosen_by_our_sampler_and_taken_greedily() -> None:
    sampling = Sampling(temperature=0.7, top_p=0.8, top_k=40, seed=-3, repetition_penalty=1.2)
    found = vllm_sampling(sampling, {}, 7, 30)
    assert (found["temperature"], found["top_p"], found["top_k"], found["repetition_penalty"]) == (0.0, 1.0, 0, 1.0)
    asks = Asks.unpack(found["extra_args"][ASKS_KEY])
    assert asks == Asks(-3, 0.7, 0.8, 40, 0.0, 0.0, 1.2, 7)
    assert asks.penalised


@pytest.mark.parametrize("penalty", ["presence_penalty", "frequency_penalty"])
def test_penalties_that_count_the_answer_are_ours_under_any_temperature(penalty: str) -> None:
    for temperature in (0.0, 0.8):
        found = vllm_sampling(Sampling(temperature=temperature, **{penalty: 0.5}), {}, 3, 30)  # type: ignore[arg-type]  # floats alone
        asks = Asks.unpack(found["extra_args"][ASKS_KEY])
        assert asks.seed is None
        assert asks.resumed == 3
        assert found["temperature"] == temperature
        assert penalty not in found


def test_a_seed_without_chance_asks_nothing() -> None:
    assert "extra_args" not in vllm_sampling(Sampling(temperature=0.0, seed=5), {}, 0, 30)


@pytest.mark.parametrize(
    ("structure", "expected"),
    [
        pytest.param(None, None, id="none"),
        pytest.param(Structure(Form.JSON_SCHEMA, "{}"), {"json": "{}"}, id="schema"),
        pytest.param(Structure(Form.JSON_OBJECT), {"json_object": True}, id="object"),
        pytest.param(Structure(Form.REGEX, "a+"), {"regex": "a+"}, id="regex"),
        pytest.param(Structure(Form.CHOICES, choices=("a", "b")), {"choice": ["a", "b"]}, id="choices"),
        pytest.param(Structure(Form.GRAMMAR, "root ::= x"), {"grammar": "root ::= x"}, id="grammar"),
    ],
)
def test_structures(structure: Structure | None, expected: dict[str, object] | None) -> None:
    assert vllm_structure(structure) == expected
