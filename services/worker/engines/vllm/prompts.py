"""Turns prompts into token ids with the model's tokenizer, and says which tokens each prefix of a prompt's bytes needs.

Long prompts are tokenised on a thread of its own, so that the event loop goes on.
"""

import asyncio
import bisect
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from services.kit.errors import InvalidArgument
from services.worker.engines.vllm.vocabulary import fingerprint_of, pieces_of
from services.worker.ports import Conversation, Prompt, Rendered, Tokenised
from services.worker.prefix import BLOCK_BYTES, TOKEN_BYTES, prefix_hashes, prompt_bytes

# Characters that are tokenised on the event loop, where it takes less time than handing it to a thread.
INLINE_CHARS = 2_048
# Where the tokens are of an unknown kind: the longest that is assumed.
_LONGEST_TOKEN_BYTES = 256


@dataclass(frozen=True, slots=True)
class Read:
    """A prompt's tokens. `prefixes` are (tokens needed, hash) for each block of its bytes, first block first."""

    ids: list[int]
    prefixes: tuple[tuple[int, int], ...]


class Reader:
    """One model's tokenizer and chat template; `close` ends its thread."""

    def __init__(self, tokenizer: Any, size: int, template: str | None, context_tokens: int, *, prefixes: bool) -> None:
        self._tokenizer = tokenizer
        self._fast = getattr(tokenizer, "backend_tokenizer", None) or getattr(tokenizer, "_tokenizer", None)
        if not hasattr(self._fast, "to_str"):
            self._fast = None
        self._template = template
        self._context_tokens = context_tokens
        self._prefixes = prefixes
        self._threads = ThreadPoolExecutor(1, "tokenise")
        self.size = size
        vocabulary: dict[str, int] = tokenizer.get_vocab()
        description = json.loads(self._fast.to_str()) if self._fast is not None else {"vocab": sorted(vocabulary)}
        self.pieces = pieces_of(description, vocabulary, size)
        end = (getattr(tokenizer, "bos_token_id", None), getattr(tokenizer, "eos_token_id", None), size)
        self.fingerprint = fingerprint_of(description, template or getattr(tokenizer, "chat_template", ""), *end)
        self._longest = max((len(p) for p in self.pieces), default=1) if self.pieces else _LONGEST_TOKEN_BYTES
        self._longest = max(self._longest, *(len(text.encode()) for text in vocabulary))

    def spell(self, token: int) -> str:
        """The token's own text; bytes that are no UTF-8 are replaced."""
        if self.pieces is not None:
            return self.pieces[token].decode(errors="replace")
        return str(self._tokenizer.decode([token]))

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def read(self, prompt: Prompt, adapter: str) -> Read:
        """Raises InvalidArgument where the prompt is wrong, or cannot fit whatever its tokens are."""
        if isinstance(prompt, Tokenised):
            self.check_ids(prompt.ids, "prompt.token_ids", "the prompt")
            return Read(list(prompt.ids), self._prefixes_of_ids(prompt, adapter))
        chars = len(prompt.text) if isinstance(prompt, Rendered) else sum(len(m.content) for m in prompt.messages)
        if chars <= INLINE_CHARS:
            return self._read_text(prompt, adapter)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._read_text, prompt, adapter)

    def check_ids(self, ids: Sequence[int], where: str, whose: str) -> None:
        """Raises InvalidArgument where one is no token of the model."""
        if ids and max(ids) >= self.size:
            message = f"{max(ids)}, a token of {whose}, is not in the vocabulary of {self.size}"
            raise InvalidArgument(message, reason="UNKNOWN_TOKEN", field=where)

    def _prefixes_of_ids(self, prompt: Tokenised, adapter: str) -> tuple[tuple[int, int], ...]:
        if not self._prefixes or len(prompt.ids) * TOKEN_BYTES < BLOCK_BYTES:
            return ()
        each = BLOCK_BYTES // TOKEN_BYTES
        hashes = prefix_hashes(prompt_bytes(prompt), adapter)
        return tuple((each * (at + 1), name) for at, name in enumerate(hashes))

    def _read_text(self, prompt: Conversation | Rendered, adapter: str) -> Read:
        if isinstance(prompt, Rendered):
            text: str | list[int] = prompt.text
        else:
            text = self._render(prompt)
        if not isinstance(text, str):
            return Read(text, ())
        self._check_size(text)
        with_marks = isinstance(prompt, Rendered)
        if self._fast is None:
            return Read(list(self._tokenizer.encode(text, add_special_tokens=with_marks)), ())
        found = self._fast.encode(text, add_special_tokens=with_marks)
        prefixes = tuple(_needs(prompt, text, found.offsets, adapter)) if self._prefixes else ()
        return Read(list(found.ids), prefixes)

    def _render(self, prompt: Conversation) -> str | list[int]:
        messages = [{"role": turn.role.value, "content": turn.content} for turn in prompt.messages]
        own = getattr(self._tokenizer, "chat_template", None)
        if self._template is None and own is None and self._fast is not None:
            message = "this model has no chat template; send the prompt as text, or set worker.vllm.chat_template"
            raise InvalidArgument(message, reason="NO_CHAT_TEMPLATE", field="prompt.conversation")
        more = {"chat_template": self._template} if self._template is not None else {}
        try:
            found = self._tokenizer.apply_chat_template(
                messages, tokenize=self._fast is None, add_generation_prompt=True, **more
            )
        except Exception as error:
            # Templates refuse what their model cannot take, such as two turns of one role, by raising anything.
            message = f"the model's chat template refuses this conversation: {error}"
            raise InvalidArgument(message, reason="TEMPLATE_REFUSES", field="prompt.conversation") from error
        return found if isinstance(found, str) else list(found)

    def _check_size(self, text: str) -> None:
        """A text that is longer than the context's longest tokens together need not be tokenised to be refused."""
        if len(text) > self._context_tokens * self._longest:
            least = len(text) // self._longest
            message = (
                f"the prompt has more than {least} tokens and the context {self._context_tokens}, so no answer fits"
            )
            raise InvalidArgument(message, reason="PROMPT_TOO_LONG", field="prompt")


def _needs(
    prompt: Conversation | Rendered, text: str, offsets: Sequence[tuple[int, int]], adapter: str
) -> Iterator[tuple[int, int]]:
    """(tokens needed, hash) for each block; it ends where the template changed a turn's text beyond recognition."""
    data = prompt_bytes(prompt)
    hashes = prefix_hashes(data, adapter)
    if not hashes:
        return
    ends: list[int] = []
    for _, end in offsets:
        # Marks that the tokenizer adds stand nowhere in the text: (0, 0).
        ends.append(max(end, ends[-1] if ends else 0))
    places = _places(prompt, text)
    upto, start_byte, start_char, content = next(places, (0, 0, 0, b""))
    for at, name in enumerate(hashes):
        byte = BLOCK_BYTES * (at + 1)
        while byte > upto:
            found = next(places, None)
            if found is None:
                return
            upto, start_byte, start_char, content = found
        inside = content[: max(0, byte - start_byte)]
        # A character that the block's end cuts has to be there in full.
        chars = len(inside.decode(errors="replace"))
        needed = bisect.bisect_left(ends, start_char + chars) + 1
        if needed > len(ends):
            return
        yield needed, name


def _places(prompt: Conversation | Rendered, text: str) -> Iterator[tuple[int, int, int, bytes]]:
    """For each turn: the byte after it, where its content begins in bytes and in the rendered text, and the content."""
    if isinstance(prompt, Rendered):
        content = text.encode()
        yield len(content), 0, 0, content
        return
    byte = char = 0
    for turn in prompt.messages:
        content = turn.content.encode()
        # Many templates strip what is around a turn.
        shown = turn.content if text.find(turn.content, char) >= 0 else turn.content.strip()
        found = text.find(shown, char)
        if found < 0:
            return
        lead = len(turn.content) - len(turn.content.lstrip()) if shown != turn.content else 0
        yield byte + 1 + len(content) + 1, byte + 1, max(0, found - lead), content
        byte += len(content) + 2
        char = found + len(shown)
