"""Wrong requests: INVALID_ARGUMENT with the field named, the link stays up, and nothing is left in the engine."""

import asyncio

import pytest

from tests.engines.client import EngineLink
from tests.engines.engines import CONTEXT_TOKENS, EngineCase
from weft.chat.v1 import chat_pb2
from weft.worker.v1 import worker_pb2 as pb

INVALID = 3
HUGE = 4 * 1024 * 1024


def turn(content: str, role: "chat_pb2.Role.ValueType" = chat_pb2.ROLE_USER) -> pb.Prompt:
    return pb.Prompt(conversation=pb.Conversation(messages=[chat_pb2.Message(role=role, content=content)]))


WRONG_PROMPTS = [
    pytest.param(pb.Prompt(), "EMPTY_PROMPT", "prompt", id="none"),
    pytest.param(pb.Prompt(text=""), "EMPTY_PROMPT", "prompt.text", id="empty-text"),
    pytest.param(
        pb.Prompt(conversation=pb.Conversation()), "EMPTY_PROMPT", "prompt.conversation", id="empty-conversation"
    ),
    pytest.param(pb.Prompt(token_ids=pb.TokenIds()), "EMPTY_PROMPT", "prompt.token_ids", id="empty-ids"),
    pytest.param(turn(""), "EMPTY_MESSAGE", "prompt.conversation.messages[0].content", id="empty-turn"),
    pytest.param(turn("a", 77), "UNKNOWN_ROLE", "prompt.conversation.messages[0].role", id="no-such-role"),
    pytest.param(pb.Prompt(text="word " * (CONTEXT_TOKENS + 50)), "PROMPT_TOO_LONG", "prompt", id="too-long-text"),
    pytest.param(turn("word " * (CONTEXT_TOKENS + 50)), "PROMPT_TOO_LONG", "prompt", id="too-long-turn"),
    pytest.param(pb.Prompt(text="word " * (HUGE // 5)), "PROMPT_TOO_LONG", "prompt", id="4-MiB"),
    pytest.param(pb.Prompt(text="🚀 東京 " * (HUGE // 12)), "PROMPT_TOO_LONG", "prompt", id="4-MiB-of-many-bytes"),
]


@pytest.mark.parametrize(("prompt", "reason", "field"), WRONG_PROMPTS)
async def test_a_wrong_prompt(link: EngineLink, case: EngineCase, prompt: pb.Prompt, reason: str, field: str) -> None:
    async with asyncio.timeout(10):
        failure = await link.refused(prompt, max_tokens=5)
    assert (failure.code, failure.reason, failure.field) == (INVALID, reason, field)
    assert failure.message.strip()
    assert len((await link.answer(case.questions[0], max_tokens=3)).ids) == 3
    await link.idle()


@pytest.mark.parametrize("many", [1, CONTEXT_TOKENS + 50], ids=["one", "too-many"])
async def test_ids_that_are_no_tokens(link: EngineLink, case: EngineCase, many: int) -> None:
    foreign = (1 << 32) - 1
    failure = await link.refused(pb.Prompt(token_ids=pb.TokenIds(ids=[foreign] * many)), max_tokens=5)
    assert failure.code == INVALID
    assert failure.field in ("prompt", "prompt.token_ids")
    assert failure.message.strip()
    assert len((await link.answer(case.questions[0], max_tokens=3)).ids) == 3


async def test_more_ids_than_fit(link: EngineLink, case: EngineCase) -> None:
    failure = await link.refused(pb.Prompt(token_ids=pb.TokenIds(ids=[17] * (CONTEXT_TOKENS + 1))), max_tokens=5)
    expected = ("PROMPT_TOO_LONG", "prompt") if case.vocabulary else ("UNSUPPORTED", "prompt.token_ids")
    assert (failure.reason, failure.field) == expected


async def test_the_last_id_of_the_vocabulary_is_one(link: EngineLink, case: EngineCase) -> None:
    if not case.vocabulary:
        pytest.skip("it takes no token ids")
    last = pb.Prompt(token_ids=pb.TokenIds(ids=[20, case.vocabulary - 1]))
    assert len((await link.answer(last, max_tokens=3)).ids) == 3
    beyond = pb.Prompt(token_ids=pb.TokenIds(ids=[20, case.vocabulary]))
    failure = await link.refused(beyond)
    assert (failure.code, failure.field) == (INVALID, "prompt.token_ids")


async def test_resumed_ids_that_are_no_tokens(link: EngineLink, case: EngineCase) -> None:
    if link.hello.capabilities.text_only:
        pytest.skip("its resumed ids only count")
    failure = await link.refused(case.questions[0], resume=[(1 << 32) - 1])
    assert (failure.code, failure.field) == (INVALID, "resume_token_ids")


@pytest.mark.parametrize(
    ("sampling", "field"),
    [
        pytest.param({"temperature": 2.5}, "sampling.temperature", id="temperature"),
        pytest.param({"temperature": float("nan")}, "sampling.temperature", id="nan"),
        pytest.param({"top_p": 0.0}, "sampling.top_p", id="top-p"),
        pytest.param({"max_tokens": 0}, "sampling.max_tokens", id="max-tokens"),
        pytest.param({"presence_penalty": 3.0}, "sampling.presence_penalty", id="presence-penalty"),
        pytest.param({"repetition_penalty": 0.0}, "sampling.repetition_penalty", id="repetition-penalty"),
        pytest.param({"logprobs": 21}, "sampling.logprobs", id="logprobs"),
        pytest.param({"stop": [""]}, "sampling.stop[0]", id="empty-stop"),
        pytest.param({"stop": ["x"] * 17}, "sampling.stop", id="stops"),
    ],
)
async def test_wrong_sampling(link: EngineLink, case: EngineCase, sampling: dict[str, object], field: str) -> None:
    failure = await link.refused(case.questions[0], **sampling)
    assert (failure.code, failure.reason, failure.field) == (INVALID, "OUT_OF_RANGE", field)


@pytest.mark.parametrize(
    "sampling",
    [
        pytest.param({"temperature": 2.0}, id="hottest"),
        pytest.param({"temperature": 0.7, "top_p": 1e-6}, id="smallest-nucleus"),
        pytest.param({"temperature": 0.7, "top_k": 1_000_000}, id="more-than-there-are"),
        pytest.param({"temperature": 0.7, "seed": -(1 << 63)}, id="lowest-seed"),
        pytest.param({"temperature": 0.7, "seed": (1 << 63) - 1}, id="highest-seed"),
        pytest.param({"presence_penalty": -2.0, "frequency_penalty": 2.0}, id="penalties"),
        pytest.param({"repetition_penalty": 2.0}, id="repetition-penalty"),
        pytest.param({"stop": ["\x01" * 256] * 16}, id="stops"),
    ],
)
async def test_the_ends_of_each_range_are_in_it(
    link: EngineLink, case: EngineCase, sampling: dict[str, object]
) -> None:
    whole = await link.answer(case.questions[0], max_tokens=4, **sampling)
    assert len(whole.ids) == whole.usage.completion_tokens
    assert 1 <= len(whole.ids) <= 4


async def test_another_model(link: EngineLink, case: EngineCase) -> None:
    failure = await link.refused(case.questions[0], model="no-such-model")
    assert (failure.code, failure.field) == (5, "model")
    assert len((await link.answer(case.questions[0], model=link.hello.model, max_tokens=3)).ids) == 3


async def test_a_huge_prompt_holds_nobody_up(link: EngineLink, case: EngineCase) -> None:
    """Others go on while it is looked at: no gap between two of their messages is longer than a second."""
    busy = await link.ask(case.questions[0])
    await link.tokens(busy)
    refused = await link.ask(pb.Prompt(text="word " * (HUGE // 5)))
    loop, longest_s = asyncio.get_running_loop(), 0.0
    last_s = loop.time()
    while refused not in link.answers:
        await link.read()
        longest_s, last_s = max(longest_s, loop.time() - last_s), loop.time()
    assert link.answers[refused].ended is not None
    assert longest_s < 1.0
    await link.cancel(*({busy} if link.answers[busy].ended is None else ()))
