"""One request of the sim engine, and the tokens that its prompt gives. Pure."""

import hashlib
from dataclasses import dataclass

from services.kit.errors import InvalidArgument
from services.worker.engines.sim.words import WORDS
from services.worker.ports import Conversation, Finish, Prompt, Reason, Rendered, Started
from services.worker.prefix import BLOCK_BYTES, TOKEN_BYTES, prefix_hashes, prompt_bytes
from services.worker.text import TextStage

# Prompts may come in the ids of any real model; its own answers use the first few of them.
VOCABULARY = 262_144
BLOCK_TOKENS = BLOCK_BYTES // TOKEN_BYTES
_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Reading:
    """What a prompt comes to: the seed of its answer, its size, and its blocks' hashes."""

    seed: int
    tokens: int
    size_bytes: int
    hashes: tuple[int, ...]

    def cached_tokens(self, blocks: int) -> int:
        """Tokens of its first blocks. The last token is never among them: the first step needs what it gives."""
        if not blocks:
            return 0
        return min(self.tokens - 1, self.tokens * blocks * BLOCK_BYTES // self.size_bytes)

    @property
    def tail_tokens(self) -> int:
        """Tokens after its last whole block; they share a block with the answer's first."""
        return self.tokens - self.tokens * len(self.hashes) * BLOCK_BYTES // self.size_bytes


@dataclass(slots=True, eq=False)
class Request:
    """An answer under way. It has `index` tokens and ends at `end`, with an error where it is to fail.

    `todo_tokens` are those to prefill, resumed ones included, and `queued_tokens` what its worker's load counts of
    them. Of the cache's blocks it holds the first `pinned` of its prompt's and `unnamed` others, and it needs one more
    for the token at `grows_at`. One that was preempted has told what was cached when it came first.
    """

    key: int
    prompt: Reading
    stage: TextStage | None
    index: int
    end: int
    fails: bool = False
    garbled: bool = False
    cached_tokens: int = 0
    todo_tokens: int = 0
    queued_tokens: int = 0
    pinned: int = 0
    unnamed: int = 0
    grows_at: int = 0
    ready_s: float = 0.0
    preempted: bool = False

    def expect(self, cached_blocks: int) -> None:
        """So many blocks of its prompt are in the cache."""
        cached = self.prompt.cached_tokens(cached_blocks)
        self.todo_tokens = self.prompt.tokens + self.index - cached
        if not self.preempted:
            self.cached_tokens = cached

    def answer_blocks(self, tokens: int) -> int:
        """Blocks that so many tokens of the answer take, with what is left over of the prompt."""
        return -(-(self.prompt.tail_tokens + tokens) // BLOCK_TOKENS)

    def room_of(self, blocks: int) -> int:
        """Tokens of the answer that so many blocks hold, with what is left over of the prompt."""
        return blocks * BLOCK_TOKENS - self.prompt.tail_tokens

    def name_blocks(self, pinned: int) -> None:
        """So many blocks of its prompt have their names now."""
        self.unnamed -= pinned - self.pinned
        self.pinned = pinned

    def wait_again(self) -> None:
        """It lost its blocks: its prompt and its answer until now have to be computed anew."""
        self.preempted, self.ready_s = True, 0.0
        self.pinned = self.unnamed = 0
        self.expect(0)
        self.queued_tokens = self.todo_tokens

    def started(self) -> Started:
        """That it passed the checks."""
        return Started(self.key, self.prompt.tokens, self.cached_tokens)

    def finish(self, reason: Reason) -> Finish:
        """How it ends now."""
        return Finish(reason, self.prompt.tokens, self.cached_tokens, self.index)


def token_id(seed: int, index: int) -> int:
    """The answer's token at `index`, for the prompt with this seed: SplitMix64's finaliser over the two."""
    mixed = (seed + (index + 1) * 0x9E3779B97F4A7C15) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    return (mixed >> 31) % len(WORDS)


def read(prompt: Prompt, *, with_hashes: bool) -> Reading:
    """A prompt has a token for each word, and two for each turn's template. Without hashes nothing of it is cached.

    Raises InvalidArgument for ids beyond VOCABULARY.
    """
    data = prompt_bytes(prompt)
    if isinstance(prompt, Conversation):
        tokens = sum(len(turn.content.split()) + 2 for turn in prompt.messages)
    elif isinstance(prompt, Rendered):
        tokens = max(1, len(prompt.text.split()))
    else:
        tokens = len(prompt.ids)
        check_ids(prompt.ids)
    seed = int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")
    return Reading(seed, tokens, len(data), prefix_hashes(data) if with_hashes else ())


def check_ids(ids: tuple[int, ...]) -> None:
    """Raises InvalidArgument where one is no token."""
    if (highest := max(ids)) >= VOCABULARY:
        message = f"token id {highest} is not in the vocabulary, which has {VOCABULARY} tokens"
        raise InvalidArgument(message, reason="UNKNOWN_TOKEN", field="prompt.token_ids")


def check_blocks(request: Request, kv_blocks: int) -> None:
    """An answer ends where it alone fills the cache; raises InvalidArgument where it cannot even begin."""
    blocks = len(request.prompt.hashes)
    room = request.room_of(kv_blocks - blocks)
    if room < 1:
        message = f"the prompt fills {blocks} blocks and the KV cache has {kv_blocks}, so no answer fits"
        raise InvalidArgument(message, reason="PROMPT_TOO_LONG", field="prompt")
    request.end = min(request.end, room)


def check_resume(seed: int, resume: tuple[int, ...]) -> None:
    """Raises InvalidArgument where these are not the answer's first tokens."""
    for index, got in enumerate(resume):
        if got != token_id(seed, index):
            message = f"resumed token {index} is {got}, which is not what this prompt gives"
            raise InvalidArgument(message, reason="RESUME_MISMATCH", field="resume_token_ids")
