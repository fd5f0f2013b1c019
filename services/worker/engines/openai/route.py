"""From one request of the mesh to one call of the upstream: by token ids where it has them, by text elsewhere."""

import asyncio
from dataclasses import dataclass, replace
from typing import Any, Protocol

from services.kit.errors import InvalidArgument, Unavailable
from services.worker.engines.grammar import StructureCheck
from services.worker.engines.http import HttpClient
from services.worker.engines.limits import check_room
from services.worker.engines.openai.body import sampling_fields
from services.worker.engines.openai.dialect import LLAMACPP, SGLANG, Dialect
from services.worker.ports import Conversation, Logprob, Prompt, Rendered, Tokenised, Work

COMPLETIONS = "/v1/completions"
CHAT = "/v1/chat/completions"
# Texts of tokens that are remembered for log probabilities.
TEXTS_LIMIT = 65_536
# Longer ones than any known vocabulary has.
_LONGEST_TOKEN_BYTES = 256
# Ids at a prompt's end that tell whether it breaks off: no character has more bytes than these have tokens.
_LOOK_BACK = 4
_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Call:
    """What to send. `prompt_tokens` is 0 where it is not known; `end` is the answer's last place, 0 where unbounded.

    `shown` is what the upstream has shown of the resumed tokens' text, and `unshown` the last of them, which end in the
    middle of a character. `mends` says that the prompt does so, with them or by itself.
    """

    path: str
    body: dict[str, Any]
    prompt_tokens: int = 0
    end: int = 0
    shown: str = ""
    unshown: tuple[int, ...] = ()
    mends: bool = False


class Route(Protocol):
    """One way to ask an upstream."""

    async def call(self, work: Work) -> Call:
        """Raises InvalidArgument where the request cannot be, Unavailable where the upstream is away."""

    async def text_of(self, work: Work, ids: list[int]) -> str:
        """The text of these ids."""

    async def spell(self, work: Work, logprobs: tuple[Logprob, ...]) -> tuple[Logprob, ...]:
        """The same with their tokens' texts, where the upstream gave ids alone."""

    async def rest_of(self, work: Work, ids: list[int]) -> str:
        """The text of an answer's last ids, for which the upstream showed none since they end no character."""


def _stream_fields(work: Work, model: str) -> dict[str, Any]:
    return {"model": work.adapter or model, "stream": True, "stream_options": {"include_usage": True}}


class IdRoute:
    """vLLM: it templates and cuts the prompt into ids, and generates from ids alone.

    So an answer that is resumed has exactly the prompt that it had before.
    """

    def __init__(self, client: HttpClient, dialect: Dialect, model: str, context_tokens: int) -> None:
        self._client = client
        self._dialect = dialect
        self._model = model
        self._context_tokens = context_tokens
        self._texts: dict[int, str] = {}

    def __repr__(self) -> str:
        return f"IdRoute({self._dialect.name} {self._model})"

    async def call(self, work: Work) -> Call:
        prompt = await self._tokenise(work)
        room = check_room(len(prompt), self._context_tokens)
        end, done = min(room, work.sampling.max_tokens or room), len(work.resume)
        shown, unshown = await self._shown(work) if done else ("", ())
        mends = bool(unshown) or (not done and await self._breaks_off(work))
        body = {
            **_stream_fields(work, self._model),
            "prompt": [*prompt, *work.resume],
            "max_tokens": max(1, end - done),
            "return_token_ids": True,
            # Their texts alone would not tell tokens apart that are parts of characters.
            "return_tokens_as_token_ids": work.sampling.logprobs is not None,
            **sampling_fields(work.sampling, self._dialect, done, chat=False),
        }
        return Call(COMPLETIONS, body, len(prompt), end, shown, unshown, mends)

    async def _tokenise(self, work: Work) -> list[int]:
        prompt, body = work.prompt, dict[str, Any](model=work.adapter or self._model)
        if isinstance(prompt, Tokenised):
            return list(prompt.ids)
        if isinstance(prompt, Conversation):
            body["messages"] = _messages(prompt)
        else:
            body["prompt"] = prompt.text
        _check_size(prompt, self._context_tokens)
        answer = await self._client.post("/tokenize", body)
        return [int(token) for token in answer["tokens"]]

    async def text_of(self, work: Work, ids: list[int]) -> str:
        answer = await self._client.post("/detokenize", {"model": work.adapter or self._model, "tokens": ids})
        return str(answer["prompt"])

    async def _breaks_off(self, work: Work) -> bool:
        """Whether the prompt itself ends in the middle of a character, as no text of a template does."""
        prompt = work.prompt
        if isinstance(prompt, Tokenised):
            return (await self.text_of(work, list(prompt.ids[-_LOOK_BACK:]))).endswith("\ufffd")
        return isinstance(prompt, Rendered) and prompt.text.endswith("\ufffd")

    async def spell(self, work: Work, logprobs: tuple[Logprob, ...]) -> tuple[Logprob, ...]:
        ids = {one.token_id for token in logprobs for one in (token, *token.alternatives)}
        unknown = [token for token in ids if token not in self._texts]
        if len(self._texts) + len(unknown) > TEXTS_LIMIT:
            self._texts.clear()
            unknown = list(ids)
        for at in range(0, len(unknown), _AT_ONCE):
            some = unknown[at : at + _AT_ONCE]
            found = await asyncio.gather(*(self.text_of(work, [token]) for token in some))
            self._texts.update(zip(some, found, strict=True))
        return tuple(self._named(one) for one in logprobs)

    def _named(self, one: Logprob) -> Logprob:
        alternatives = tuple(self._named(other) for other in one.alternatives)
        return replace(one, text=self._texts[one.token_id], alternatives=alternatives)

    async def rest_of(self, work: Work, ids: list[int]) -> str:
        # Parts of characters alone: vLLM shows no text for tokens that steer the model, though it can spell them.
        parts = [token for token in ids if "\ufffd" in await self.text_of(work, [token])]
        return await self.text_of(work, parts) if parts else ""

    async def _shown(self, work: Work) -> tuple[str, tuple[int, ...]]:
        """What vLLM has shown of the resumed tokens, which is all up to the last that ended a character."""
        ids = list(work.resume)
        for count in range(len(ids), 0, -1):
            try:
                text = await self.text_of(work, ids[:count])
            except InvalidArgument as error:
                message = f"the resumed tokens are none of this model: {error.message}"
                raise InvalidArgument(message, reason="UNKNOWN_TOKEN", field="resume_token_ids") from error
            if not text.endswith("\ufffd"):
                return text, tuple(ids[count:])
        return "", tuple(ids)


class TextRoute:
    """Servers that know text: a resumed answer goes on after its text, as the end of the prompt."""

    def __init__(
        self,
        client: HttpClient,
        dialect: Dialect,
        model: str,
        context_tokens: int,
        max_tokens: int,
        structures: StructureCheck,
    ) -> None:
        self._client = client
        self._dialect = dialect
        self._model = model
        self._context_tokens = context_tokens
        self._max_tokens = max_tokens
        self._structures = structures

    def __repr__(self) -> str:
        return f"TextRoute({self._dialect.name} {self._model})"

    async def call(self, work: Work) -> Call:
        _check_size(work.prompt, self._context_tokens)
        if work.sampling.structure is not None and self._dialect is LLAMACPP:
            await self._structures.check(work.sampling.structure)
        done, end = len(work.resume), work.sampling.max_tokens or 0
        chat = isinstance(work.prompt, Conversation) and self._dialect is not LLAMACPP
        body = {
            **_stream_fields(work, self._model),
            **(_chat(work, self._dialect) if chat else {"prompt": await self._prompt(work)}),
            **sampling_fields(work.sampling, self._dialect, done, chat=chat),
        }
        if self._dialect is LLAMACPP:
            body["return_progress"] = True
        elif not chat:
            end = end or self._max_tokens
        if end:
            body["max_tokens"] = max(1, end - done)
        return Call(CHAT if chat else COMPLETIONS, body, 0, end)

    async def _prompt(self, work: Work) -> str | list[int | str]:
        prompt = work.prompt
        if isinstance(prompt, Tokenised):
            if work.resume_text and self._dialect is not LLAMACPP:
                message = "an answer to token ids cannot be resumed here; send the prompt as text"
                raise InvalidArgument(message, reason="UNSUPPORTED", field="prompt.token_ids")
            return [*prompt.ids, *([work.resume_text] if work.resume_text else [])]
        if isinstance(prompt, Rendered):
            return prompt.text + work.resume_text
        # llama.cpp: the template applied on its own, so that the answer's text can follow it.
        answer = await self._client.post("/apply-template", {"messages": _messages(prompt)})
        return str(answer["prompt"]) + work.resume_text

    async def text_of(self, work: Work, ids: list[int]) -> str:
        raise Unavailable("this upstream has no token ids")

    async def spell(self, work: Work, logprobs: tuple[Logprob, ...]) -> tuple[Logprob, ...]:
        return logprobs

    async def rest_of(self, work: Work, ids: list[int]) -> str:
        return ""


def _check_size(prompt: Prompt, context_tokens: int) -> None:
    """Refuses what no tokenizer could make fit: cutting it would keep the upstream busy for long."""
    if isinstance(prompt, Conversation):
        size = sum(len(turn.content.encode()) for turn in prompt.messages)
    else:
        size = len(prompt.text.encode()) if isinstance(prompt, Rendered) else 0
    check_room(size // _LONGEST_TOKEN_BYTES, context_tokens)


def _messages(prompt: Conversation) -> list[dict[str, str]]:
    return [{"role": turn.role.value, "content": turn.content} for turn in prompt.messages]


def _chat(work: Work, dialect: Dialect) -> dict[str, Any]:
    if not isinstance(work.prompt, Conversation):
        raise TypeError("only conversations are chats")
    messages = _messages(work.prompt)
    if not work.resume_text:
        return {"messages": messages}
    messages.append({"role": "assistant", "content": work.resume_text})
    how = {"continue_final_message": True, "add_generation_prompt": False} if dialect is SGLANG else {}
    return {"messages": messages, **how}
