"""Whole answers: streamed or not, their ids, text and usage agree, and each ends where it has to."""

import pytest

from tests.engines.client import EngineLink, Whole, generated
from tests.engines.engines import QUESTIONS, EngineCase
from tests.engines.process import EngineWorker
from weft.chat.v1 import chat_pb2
from weft.worker.v1 import worker_pb2 as pb


def check(whole: Whole, case: EngineCase, tokens: int) -> None:
    """What every answer that reached its max_tokens owes."""
    assert whole.reason == chat_pb2.FINISH_REASON_LENGTH
    assert len(whole.ids) == whole.usage.completion_tokens == tokens
    assert whole.usage.prompt_tokens > 0
    assert 0 <= whole.usage.cached_tokens <= whole.usage.prompt_tokens
    if case.spell is not None:
        assert whole.text == case.spell(whole.ids).decode(errors="replace")


def test_hello_says_what_the_worker_is(link: EngineLink, case: EngineCase) -> None:
    hello = link.hello
    assert hello.engine == case.name.partition("-")[0]
    assert hello.model
    assert hello.incarnation
    assert hello.limits.max_running > 0
    assert hello.limits.context_tokens > 0
    if hello.capabilities.text_only:
        assert hello.tokenizer_fingerprint == f"text:{hello.model}"
        assert not hello.capabilities.exact_resume
    else:
        assert hello.tokenizer_fingerprint
    if hello.capabilities.replays_structure:
        assert hello.capabilities.structured_output


@pytest.mark.parametrize("tokens", [1, 2, 7, 40])
async def test_an_answer_has_max_tokens_and_says_so(link: EngineLink, case: EngineCase, tokens: int) -> None:
    whole = await link.answer(case.questions[0], max_tokens=tokens)
    check(whole, case, tokens)
    assert sum(len(delta.token_ids) for message in link.messages for delta in message.deltas) == tokens


async def test_generate_gives_what_the_link_gives(link: EngineLink, case: EngineCase, worker: EngineWorker) -> None:
    for question in case.questions[:3]:
        streamed = await link.answer(question, max_tokens=30)
        alone = await generated(worker.address, question, max_tokens=30)
        check(alone, case, 30)
        assert alone.text == streamed.text
        assert alone.ids == streamed.ids
        assert alone.usage.prompt_tokens == streamed.usage.prompt_tokens


async def test_a_greedy_answer_is_the_same_again(link: EngineLink, case: EngineCase) -> None:
    first = await link.answer(case.questions[1], max_tokens=40)
    again = await link.answer(case.questions[1], max_tokens=40)
    assert (again.ids, again.text) == (first.ids, first.text)


async def test_questions_have_answers_of_their_own(link: EngineLink, case: EngineCase) -> None:
    requests = [await link.ask(question, max_tokens=60) for question in case.questions]
    texts = {(await link.whole(request)).text for request in requests}
    assert len(texts) == QUESTIONS


async def test_a_conversation_is_answered(link: EngineLink, case: EngineCase) -> None:
    turns = [
        chat_pb2.Message(role=chat_pb2.ROLE_SYSTEM, content="Be brief."),
        chat_pb2.Message(content="Which way to 東京? 🚀"),
        chat_pb2.Message(role=chat_pb2.ROLE_ASSISTANT, content="East."),
        chat_pb2.Message(role=chat_pb2.ROLE_USER, content="And to Zürich?"),
    ]
    prompt = pb.Prompt(conversation=pb.Conversation(messages=turns))
    check(await link.answer(prompt, max_tokens=12), case, 12)


async def test_token_ids_are_a_prompt(link: EngineLink, case: EngineCase) -> None:
    prompt = pb.Prompt(token_ids=pb.TokenIds(ids=[17, 23, 42, 99, 101]))
    if not case.vocabulary:
        failure = await link.refused(prompt)
        assert (failure.code, failure.reason, failure.field) == (3, "UNSUPPORTED", "prompt.token_ids")
        return
    whole = await link.answer(prompt, max_tokens=12)
    check(whole, case, 12)
    assert whole.usage.prompt_tokens == 5


async def test_no_text_is_broken_between_tokens(link: EngineLink, case: EngineCase) -> None:
    """Characters of several bytes come whole, whatever the tokens: no prefix of the text holds half of one."""
    for number, question in enumerate(case.questions[:4]):
        whole = await link.answer(question, max_tokens=60 + number, temperature=0.0)
        for count, shown in whole.shown.items():
            assert whole.text.startswith(shown), f"after {count} tokens"
            if case.spell is not None and shown:
                assert case.spell(whole.ids[:count]).decode(errors="replace").startswith(shown), f"after {count} tokens"


async def test_the_context_bounds_an_answer_without_max_tokens(link: EngineLink, case: EngineCase) -> None:
    whole = await link.answer(case.questions[2])
    assert whole.reason in (chat_pb2.FINISH_REASON_LENGTH, chat_pb2.FINISH_REASON_STOP)
    assert len(whole.ids) == whole.usage.completion_tokens
    assert whole.usage.prompt_tokens + whole.usage.completion_tokens <= link.hello.limits.context_tokens


async def test_more_than_fits_is_cut_at_the_context(link: EngineLink, case: EngineCase) -> None:
    whole = await link.answer(case.questions[3], max_tokens=1_000_000)
    assert whole.usage.prompt_tokens + whole.usage.completion_tokens <= link.hello.limits.context_tokens
    assert len(whole.ids) == whole.usage.completion_tokens
