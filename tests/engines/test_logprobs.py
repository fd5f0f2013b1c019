"""Log probabilities, where the worker's hello declares them."""

import pytest

from tests.engines.client import EngineLink, generated
from tests.engines.engines import EngineCase
from tests.engines.process import EngineWorker


async def test_not_declared_is_refused(link: EngineLink, case: EngineCase) -> None:
    if link.hello.capabilities.logprobs:
        pytest.skip("it has them")
    failure = await link.refused(case.questions[0], logprobs=2)
    assert (failure.code, failure.reason, failure.field) == (3, "UNSUPPORTED", "sampling.logprobs")


@pytest.mark.parametrize("count", [0, 1, 5])
async def test_each_token_has_one(link: EngineLink, case: EngineCase, count: int) -> None:
    if not link.hello.capabilities.logprobs:
        pytest.skip("its hello does not declare them")
    plain = await link.answer(case.questions[7], max_tokens=20)
    whole = await link.answer(case.questions[7], max_tokens=20, logprobs=count)
    assert (whole.ids, whole.text) == (plain.ids, plain.text)
    assert not plain.logprobs
    assert len(whole.logprobs) == len(whole.ids)
    names_ids = not link.hello.capabilities.text_only
    for token, one in zip(whole.ids, whole.logprobs, strict=True):
        assert one.token_id == token or not names_ids
        assert one.logprob <= 0.0
        assert len(one.alternatives) == count
        values = [other.logprob for other in one.alternatives]
        assert values == sorted(values, reverse=True)
        if count and names_ids:
            assert one.alternatives[0].token_id == token, "greedy takes the most probable"
        if count:
            assert one.logprob == pytest.approx(values[0], abs=1e-4)
        assert all(not other.alternatives for other in one.alternatives)
        if case.spell is not None:
            assert one.text == case.spell([token]).decode(errors="replace")


async def test_with_a_stop_string_and_on_generate(link: EngineLink, case: EngineCase, worker: EngineWorker) -> None:
    if not link.hello.capabilities.logprobs:
        pytest.skip("its hello does not declare them")
    plain = await link.answer(case.questions[7], max_tokens=30)
    stop = next(plain.text[at : at + 2] for at in range(20, len(plain.text)) if "\ufffd" not in plain.text[at : at + 2])
    whole = await link.answer(case.questions[7], max_tokens=30, logprobs=1, stop=[stop])
    assert len(whole.logprobs) == len(whole.ids)
    alone = await generated(worker.address, case.questions[7], max_tokens=10, logprobs=2)
    assert len(alone.logprobs) == len(alone.ids)
