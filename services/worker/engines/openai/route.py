"""From one request of the mesh to one call of the upstream: by token ids where it has them, by text elsewhere."""

from dataclasses import dataclass
from typing import Any, Protocol

from services.kit.errors import InvalidArgument, Unavailable
from services.worker.engines.grammar import StructureCheck
from services.worker.engines.http import HttpClient
from services.worker.engines.limits import check_room
from services.worker.engines.openai.body import sampling_fields
from services.worker.engines.openai.dialect import LLAMACPP, SGLANG, Dialect
from services.worker.ports import Conversation, Rendered, Tokenised, Work

COMPLETIONS = "/v1/completions"
CHAT = "/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class Call:
    """What to send. `prompt_tokens` is 0 where it is not known; `end` is the answer's last place, 0 where unbounded.

    `shown` is what the upstream has shown of the resumed tokens' text; `mends` says that the last of them end in the
    middle of a character.
    """

    path: str
    body: dict[str, Any]
    prompt_tokens: int = 0
    end: int = 0
    shown: str = ""
    mends: bool = False


class Route(Protocol):
    """One way to ask an upstream."""

    async def call(self, work: Work) -> Call:
        """Raises InvalidArgument where the request cannot be, Unavailable where the upstream is away."""

    async def text_of(self, work: Work, ids: list[int]) -> str:
        """The text of these ids."""


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

    def __repr__(self) -> str:
        return f"IdRoute({self._dialect.name} {self._model})"

    async def call(self, work: Work) -> Call:
        prompt = await self._tokenise(work)
        room = check_room(len(prompt), self._context_tokens)
        end, done = min(room, work.sampling.max_tokens or room), len(work.resume)
        shown, mends = await self._shown(work) if done else ("", False)
        body = {
            **_stream_fields(work, self._model),
            "prompt": [*prompt, *work.resume],
            "max_tokens": max(1, end - done),
            "return_token_ids": True,
            **sampling_fields(work.sampling, self._dialect, done, chat=False),
        }
        return Call(COMPLETIONS, body, len(prompt), end, shown, mends)

    async def _tokenise(self, work: Work) -> list[int]:
        prompt, body = work.prompt, dict[str, Any](model=work.adapter or self._model)
        if isinstance(prompt, Tokenised):
            return list(prompt.ids)
        if isinstance(prompt, Conversation):
            body["messages"] = _messages(prompt)
        else:
            body["prompt"] = prompt.text
        answer = await self._client.post("/tokenize", body)
        return [int(token) for token in answer["tokens"]]

    async def text_of(self, work: Work, ids: list[int]) -> str:
        answer = await self._client.post("/detokenize", {"model": work.adapter or self._model, "tokens": ids})
        return str(answer["prompt"])

    async def _shown(self, work: Work) -> tuple[str, bool]:
        """What vLLM has shown of the resumed tokens, which is all up to the last that ended a character."""
        ids = list(work.resume)
        for count in range(len(ids), 0, -1):
            try:
                text = await self.text_of(work, ids[:count])
            except InvalidArgument as error:
                message = f"the resumed tokens are none of this model: {error.message}"
                raise InvalidArgument(message, reason="UNKNOWN_TOKEN", field="resume_token_ids") from error
            if not text.endswith("\ufffd"):
                return text, count < len(ids)
        return "", True


class TextRoute:
    """Servers that know text: a resumed answer goes on after its text, as the end of the prompt."""

    def __init__(
        self, client: HttpClient, dialect: Dialect, model: str, max_tokens: int, structures: StructureCheck
    ) -> None:
        self._client = client
        self._dialect = dialect
        self._model = model
        self._max_tokens = max_tokens
        self._structures = structures

    def __repr__(self) -> str:
        return f"TextRoute({self._dialect.name} {self._model})"

    async def call(self, work: Work) -> Call:
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
