"""What a worker tells of its prefix cache is what vLLM's cache holds: checked by asking again."""

import random

import pytest

from services.worker.ports import Conversation, Message, Rendered, Role, Tokenised
from services.worker.prefix import prefix_hashes, prompt_bytes
from tests.engines.client import EngineLink, linked
from tests.engines.process import EngineWorker
from tests.vllm.conftest import BLOCK_TOKENS
from weft.chat.v1 import chat_pb2
from weft.worker.v1 import worker_pb2 as pb

pytestmark = pytest.mark.timeout(400)


def ids_of(seed: int, count: int) -> tuple[int, ...]:
    chance = random.Random(seed)
    return tuple(chance.randrange(10, 2000) for _ in range(count))


def prompt_of(ids: tuple[int, ...]) -> pb.Prompt:
    return pb.Prompt(token_ids=pb.TokenIds(ids=ids))


def hashes_of(ids: tuple[int, ...]) -> set[int]:
    return set(prefix_hashes(prompt_bytes(Tokenised(ids))))


def held(link: EngineLink) -> set[int]:
    """What a router knows after all messages so far."""
    known: set[int] = set()
    for event in (event for message in link.messages for event in message.kv_events):
        if event.HasField("cleared"):
            known.clear()
        assert not known & set(event.stored.prefix_hashes), "stored twice"
        known |= set(event.stored.prefix_hashes)
        assert known >= set(event.removed.prefix_hashes), "removed without having been stored"
        known -= set(event.removed.prefix_hashes)
    return known


async def test_a_prompts_blocks_are_told_and_found_again(link: EngineLink, worker: EngineWorker) -> None:
    assert link.hello.capabilities.kv_events
    assert link.hello.kv_block_size == BLOCK_TOKENS
    ids = ids_of(1, 600)
    whole = await link.answer(prompt_of(ids), max_tokens=3)
    assert whole.usage.cached_tokens == 0
    await link.until(lambda link: held(link) >= hashes_of(ids))
    again = await link.answer(prompt_of(ids), max_tokens=3)
    assert again.usage.cached_tokens == 600 // BLOCK_TOKENS * BLOCK_TOKENS
    assert again.ids == whole.ids
    async with linked(worker.address, "another") as other:
        await other.until(lambda other: held(other) >= hashes_of(ids))


async def test_text_and_conversations(link: EngineLink) -> None:
    text = "The harbour opens at nine, and 東京 café 🚀 follow. " * 40
    messages = [
        chat_pb2.Message(role=chat_pb2.ROLE_SYSTEM, content="Be short."),
        chat_pb2.Message(role=chat_pb2.ROLE_USER, content=text),
    ]
    turns = (Message(Role.SYSTEM, "Be short."), Message(Role.USER, text))
    for prompt, mine in (
        (pb.Prompt(text=text), Rendered(text)),
        (pb.Prompt(conversation=pb.Conversation(messages=messages)), Conversation(turns)),
    ):
        whole = await link.answer(prompt, max_tokens=2)
        all_of_it = prefix_hashes(prompt_bytes(mine))
        share = whole.usage.prompt_tokens // BLOCK_TOKENS * BLOCK_TOKENS / whole.usage.prompt_tokens
        # Blocks of bytes that end within vLLM's last whole block.
        expected = set(all_of_it[: max(1, int(len(all_of_it) * share) - 1)])
        await link.until(lambda link, expected=expected: held(link) >= expected)  # type: ignore[misc]  # a default binds it


async def test_what_is_told_after_evictions_is_what_is_there(link: EngineLink) -> None:
    """More prompts than the cache has room for: those that are said to be there are, the others are not."""
    asked = [ids_of(seed, 600) for seed in range(100, 116)]
    for ids in asked:
        await link.answer(prompt_of(ids), max_tokens=2)
    await link.until(lambda link: held(link) >= hashes_of(asked[-1]))
    known = held(link)
    complete = [ids for ids in asked if hashes_of(ids) <= known]
    gone = [ids for ids in asked if not hashes_of(ids) & known]
    assert complete
    assert gone
    whole = await link.answer(prompt_of(complete[-1]), max_tokens=2)
    assert whole.usage.cached_tokens == 600 // BLOCK_TOKENS * BLOCK_TOKENS
    assert (await link.answer(prompt_of(gone[0]), max_tokens=2)).usage.cached_tokens == 0


async def test_an_adapters_cache_is_its_own(link: EngineLink) -> None:
    ids = ids_of(7, 600)
    await link.answer(prompt_of(ids), max_tokens=2)
    await link.until(lambda link: held(link) >= hashes_of(ids))
    whole = await link.answer(prompt_of(ids), model="pirate", max_tokens=2)
    assert whole.usage.cached_tokens == 0
    theirs = set(prefix_hashes(prompt_bytes(Tokenised(ids)), "pirate"))
    await link.until(lambda link: held(link) >= theirs)
