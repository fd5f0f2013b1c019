"""Adapters (LoRA), where the worker's hello names some: other models over the same weights."""

import pytest

from tests.engines.client import EngineLink
from tests.engines.engines import EngineCase


async def test_each_adapter_answers_in_its_own_way(link: EngineLink, case: EngineCase) -> None:
    names = list(link.hello.adapters)
    if not names:
        pytest.skip("its hello names none")
    assert link.hello.model not in names
    own = await link.answer(case.questions[10], max_tokens=30)
    answers = [await link.answer(case.questions[10], model=name, max_tokens=30) for name in names]
    assert len({own.text, *(whole.text for whole in answers)}) == 1 + len(names)
    again = await link.answer(case.questions[10], model=link.hello.model, max_tokens=30)
    assert again.text == own.text


async def test_adapters_run_beside_each_other(link: EngineLink, case: EngineCase) -> None:
    names = ["", *link.hello.adapters]
    if len(names) == 1:
        pytest.skip("its hello names none")
    alone = [await link.answer(case.questions[10], model=name, max_tokens=30) for name in names]
    requests = [await link.ask(case.questions[10], model=name, max_tokens=30) for name in names]
    together = [await link.whole(request) for request in requests]
    if link.hello.capabilities.exact_resume:
        assert [whole.text for whole in together] == [whole.text for whole in alone]


async def test_resumed_under_an_adapter(link: EngineLink, case: EngineCase) -> None:
    if not link.hello.adapters or not link.hello.capabilities.exact_resume:
        pytest.skip("its hello names none, or does not promise the same words")
    how = {"model": link.hello.adapters[0], "max_tokens": 20}
    whole = await link.answer(case.questions[10], **how)
    for count in list(whole.shown)[1:-1:4]:
        rest = await link.answer(case.questions[10], resume=whole.ids[:count], **how)
        assert whole.ids[:count] + rest.ids == whole.ids


async def test_what_one_has_cached_is_nothing_to_another(link: EngineLink, case: EngineCase) -> None:
    """The same prompts under each name in turn, more of them than run at once, so that caches are left and found."""
    names = ["", *link.hello.adapters]
    if len(names) == 1:
        pytest.skip("its hello names none")
    rounds = []
    for _ in range(2):
        for name in names:
            requests = [await link.ask(question, model=name, max_tokens=8) for question in case.questions]
            rounds.append([(await link.whole(request)).text for request in requests])
    if link.hello.capabilities.exact_resume:
        assert rounds[: len(names)] == rounds[len(names) :]
    assert len({tuple(texts) for texts in rounds[: len(names)]}) == len(names)
