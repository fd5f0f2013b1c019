"""Resuming: a client that has the first tokens of an answer gets the rest of it, without a gap and without a repeat."""

import itertools

import pytest

from tests.engines.client import EngineLink, Whole
from tests.engines.engines import EngineCase
from weft.chat.v1 import chat_pb2
from weft.worker.v1 import worker_pb2 as pb

TOKENS = 24
GREEDY: dict[str, object] = {}
SEEDED: dict[str, object] = {"temperature": 0.9, "seed": 7, "top_p": 0.8, "top_k": 40}
PENALISED: dict[str, object] = {"presence_penalty": 0.7, "frequency_penalty": 0.4, "repetition_penalty": 1.2}


async def check_every_split(link: EngineLink, question: pb.Prompt, whole: Whole, **sampling: object) -> None:
    """Each number of tokens that a client ever had; the text before and after make the whole text."""
    assert len(whole.shown) > 4, "deltas of this size leave nothing to resume after"
    for count in whole.shown:
        rest = await link.answer(question, resume=whole.ids[:count], **sampling)
        assert whole.ids[:count] + rest.ids == whole.ids, f"after {count} tokens"
        if count < len(whole.ids):
            assert whole.shown[count] + rest.text == whole.text, f"after {count} tokens"
        assert rest.reason == whole.reason
        assert rest.usage.completion_tokens == whole.usage.completion_tokens
        assert rest.usage.prompt_tokens == whole.usage.prompt_tokens


async def check_going_on(link: EngineLink, question: pb.Prompt, whole: Whole, **sampling: object) -> None:
    """No gap and no repeat, whatever the words; the link's client checks each index as it comes."""
    for count in [count for count in whole.shown if 0 < count < TOKENS][::5]:
        text = whole.shown[count] if link.hello.capabilities.text_only else ""
        rest = await link.answer(question, resume=whole.ids[:count], resume_text=text, **sampling)
        assert rest.usage.completion_tokens == count + len(rest.ids)
        if rest.reason == chat_pb2.FINISH_REASON_LENGTH:
            assert count + len(rest.ids) == TOKENS


async def resumed(link: EngineLink, case: EngineCase, *, exact: bool, **sampling: object) -> None:
    question = case.questions[5]
    sampling = {**sampling, "max_tokens": TOKENS}
    whole = await link.answer(question, **sampling)
    if exact:
        await check_every_split(link, question, whole, **sampling)
    else:
        await check_going_on(link, question, whole, **sampling)


async def test_greedy(link: EngineLink, case: EngineCase) -> None:
    await resumed(link, case, exact=link.hello.capabilities.exact_resume)


async def test_sampled_with_a_seed(link: EngineLink, case: EngineCase) -> None:
    can = link.hello.capabilities
    await resumed(link, case, exact=can.exact_resume and can.position_keyed_sampling, **SEEDED)


async def test_with_penalties(link: EngineLink, case: EngineCase) -> None:
    can = link.hello.capabilities
    if not can.replays_penalties:
        pytest.skip("its hello says that penalties are not replayed, so no router resumes such an answer here")
    await resumed(link, case, exact=can.exact_resume, **PENALISED)


async def test_with_penalties_and_a_seed(link: EngineLink, case: EngineCase) -> None:
    can = link.hello.capabilities
    if not (can.replays_penalties and can.position_keyed_sampling):
        pytest.skip("its hello does not promise both")
    await resumed(link, case, exact=can.exact_resume, **PENALISED, **SEEDED)


async def test_in_the_middle_of_a_stop_string(link: EngineLink, case: EngineCase) -> None:
    if not link.hello.capabilities.exact_resume:
        pytest.skip("its hello does not promise the same words")
    question = case.questions[5]
    plain = await link.answer(question, max_tokens=TOKENS)
    ends = sorted({len(shown) for shown in plain.shown.values()})
    spans = [plain.text[before - 1 : after + 1] for before, after in itertools.pairwise(ends)]
    stop = next(span for span in spans if "\ufffd" not in span and len(span) > 1)
    whole = await link.answer(question, max_tokens=TOKENS, stop=[stop])
    assert whole.reason == chat_pb2.FINISH_REASON_STOP
    for count in [count for count in whole.shown if count < len(whole.ids)]:
        rest = await link.answer(question, resume=whole.ids[:count], max_tokens=TOKENS, stop=[stop])
        assert whole.ids[:count] + rest.ids == whole.ids
        assert whole.shown[count] + rest.text == whole.text, f"after {count} tokens"
        assert rest.reason == chat_pb2.FINISH_REASON_STOP


async def test_seeds_are_their_own(link: EngineLink, case: EngineCase) -> None:
    """The same seed gives the same answer where that is promised, whoever runs beside it."""
    if not link.hello.capabilities.position_keyed_sampling:
        pytest.skip("its hello does not promise it")
    question = case.questions[6]
    alone = await link.answer(question, max_tokens=TOKENS, **SEEDED)
    requests = [
        await link.ask(other, max_tokens=TOKENS, **{**SEEDED, "seed": at}) for at, other in enumerate(case.questions)
    ]
    again = await link.answer(question, max_tokens=TOKENS, **SEEDED)
    assert (again.ids, again.text) == (alone.ids, alone.text)
    for request in requests:
        await link.ended(request)


async def test_an_answer_that_was_complete_ends_at_once(link: EngineLink, case: EngineCase) -> None:
    question = case.questions[5]
    whole = await link.answer(question, max_tokens=10)
    text = whole.text if link.hello.capabilities.text_only else ""
    rest = await link.answer(question, resume=whole.ids, resume_text=text, max_tokens=10)
    assert (rest.ids, rest.reason) == ([], chat_pb2.FINISH_REASON_LENGTH)
    assert rest.usage.completion_tokens == 10
