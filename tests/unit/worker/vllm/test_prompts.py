"""Prompts become tokens, and each prefix of their bytes knows how many of them it needs; with a real tokenizer."""

from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from services.kit.errors import InvalidArgument
from services.worker.engines.vllm.prompts import Reader
from services.worker.engines.vllm.vocabulary import fingerprint_of, pieces_of
from services.worker.ports import Conversation, Message, Prompt, Rendered, Role, Tokenised
from services.worker.prefix import BLOCK_BYTES, prefix_hashes, prompt_bytes

TEXT = "The harbour opens at nine — 東京 café 🚀. " * 60


class HubTokenizer:
    """What transformers makes of a tokenizer, as far as it is used, with a template of the usual kind."""

    bos_token_id = eos_token_id = 0

    def __init__(self, backend: Tokenizer, *, strips: bool = False, changes: bool = False) -> None:
        self.backend_tokenizer = backend
        self.chat_template = "there is one"
        self._strips, self._changes = strips, changes

    def get_vocab(self) -> dict[str, int]:
        return self.backend_tokenizer.get_vocab()

    def apply_chat_template(self, messages: list[dict[str, str]], **how: Any) -> str:
        text = ""
        for message in messages:
            content = message["content"].strip() if self._strips else message["content"]
            content = content.upper() if self._changes else content
            text += f"<|im_start|>{message['role']}\n{content}<|im_end|>\n"
        return text + "<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def backend() -> Tokenizer:
    found = Tokenizer(models.BPE())
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    found.decoder = decoders.ByteLevel()
    special = ["<|im_end|>", "<|im_start|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    found.train_from_iterator([TEXT], trainer)
    return found


def reader(backend: Tokenizer, *, context_tokens: int = 100_000, **how: bool) -> Reader:
    return Reader(HubTokenizer(backend, **how), backend.get_vocab_size(), None, context_tokens, prefixes=True)


def chat(*contents: str) -> Conversation:
    return Conversation(tuple(Message(Role.USER, content) for content in contents))


def test_pieces_join_to_the_text_that_was_tokenised(backend: Tokenizer) -> None:
    mine = reader(backend)
    assert mine.pieces is not None
    ids = backend.encode(TEXT).ids
    assert b"".join(mine.pieces[token] for token in ids) == TEXT.encode()
    assert mine.pieces[backend.token_to_id("<|im_end|>")] == b""


def test_sentencepiece_pieces() -> None:
    description = {
        "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
        "added_tokens": [{"id": 0, "special": True}, {"id": 4, "special": False}],
    }
    vocabulary = {"<s>": 0, "\u2581Hi": 1, "<0xE2>": 2, "x": 3, "<tool>": 4}
    assert pieces_of(description, vocabulary, 6) == (b"", b" Hi", b"\xe2", b"x", b"<tool>", b"")
    assert pieces_of({"decoder": {"type": "WordPiece"}}, vocabulary, 6) is None


async def test_every_prefix_needs_exactly_the_tokens_that_cover_it(backend: Tokenizer) -> None:
    mine = reader(backend)
    for prompt in (Rendered(TEXT), chat("Be short.", TEXT, "And now?" * 50), Tokenised(tuple(range(290)))):
        read = await mine.read(prompt, "")
        data = prompt_bytes(prompt)
        hashes = prefix_hashes(data)
        assert [name for _, name in read.prefixes] == list(hashes)[: len(read.prefixes)]
        assert len(read.prefixes) >= len(hashes) - 1
        needs = [needed for needed, _ in read.prefixes]
        assert needs == sorted(needs)
        if isinstance(prompt, Rendered):
            assert mine.pieces is not None
            for at, needed in enumerate(needs, 1):
                covered = b"".join(mine.pieces[token] for token in read.ids[:needed])
                fewer = b"".join(mine.pieces[token] for token in read.ids[: needed - 1])
                assert len(covered) >= BLOCK_BYTES * at
                # A character that the block's end cuts is there in full.
                assert len(fewer) < BLOCK_BYTES * at + 4
    mine.close()


async def test_prompts_with_one_beginning_need_the_same_tokens_for_it(backend: Tokenizer) -> None:
    mine = reader(backend)
    one = await mine.read(chat("Be short.", TEXT, "What is that?"), "")
    other = await mine.read(chat("Be short.", TEXT, "And what is this, if I may ask?"), "")
    assert one.prefixes[:4] == other.prefixes[:4]
    needed = one.prefixes[3][0]
    assert one.ids[:needed] == other.ids[:needed]
    mine.close()


async def test_templates_that_change_turns(backend: Tokenizer) -> None:
    stripping, changing = reader(backend, strips=True), reader(backend, changes=True)
    prompt = chat("  Be short.\n", f" {TEXT} ", "And now?")
    assert len((await stripping.read(prompt, "")).prefixes) >= 4
    assert (await changing.read(prompt, "")).prefixes == ()
    stripping.close()
    changing.close()


async def test_an_adapters_prefixes_are_its_own(backend: Tokenizer) -> None:
    mine = reader(backend)
    own, adapted = await mine.read(Rendered(TEXT), ""), await mine.read(Rendered(TEXT), "pirate")
    assert own.ids == adapted.ids
    assert not {name for _, name in own.prefixes} & {name for _, name in adapted.prefixes}
    mine.close()


@pytest.mark.parametrize(
    ("prompt", "reason", "field"),
    [
        pytest.param(Tokenised((5, 400_000)), "UNKNOWN_TOKEN", "prompt.token_ids", id="foreign-token"),
        pytest.param(Rendered("word " * 1_000_000), "PROMPT_TOO_LONG", "prompt", id="5-MB"),
        pytest.param(chat("word " * 1_000_000), "PROMPT_TOO_LONG", "prompt", id="5-MB-turn"),
    ],
)
async def test_refusals(backend: Tokenizer, prompt: Prompt, reason: str, field: str) -> None:
    mine = reader(backend, context_tokens=100)
    with pytest.raises(InvalidArgument) as caught:
        await mine.read(prompt, "")
    assert (caught.value.reason, caught.value.field) == (reason, field)
    mine.close()


def test_the_fingerprint_is_that_of_the_vocabulary(backend: Tokenizer) -> None:
    assert reader(backend).fingerprint == reader(backend).fingerprint
    description = {"model": {"vocab": {"a": 0}}, "truncation": None}
    assert fingerprint_of(description, 1) == fingerprint_of({**description, "truncation": {"max_length": 5}}, 1)
    assert fingerprint_of(description, 1) != fingerprint_of({"model": {"vocab": {"b": 0}}}, 1)
    assert fingerprint_of(description, 1) != fingerprint_of(description, 2)
