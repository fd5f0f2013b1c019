"""OpenAI's request bodies: read, checked, and turned into the router's own values. Unknown fields are ignored."""

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from services.kit.errors import InvalidArgument
from services.router.convert import DEFAULT_RETRIEVED
from services.router.core.chat import Chat, Condition, Message, Rerank, Retrieval, Role, Sampling, SearchMode
from services.router.openai.forms import Formed

_ROLES = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "tool": Role.TOOL,
}

MAX_MESSAGES = 4096
MAX_PARTS = 1024
MAX_VALUES = 4096
MAX_CONDITIONS = 64
_T = TypeVar("_T", bound=BaseModel)


def _plain(prefix: str) -> Callable[[Any], Any]:
    """Takes an enum's name as the protos have it, or its last part alone, in any case."""
    return lambda value: value.lower().removeprefix(prefix.lower()) if isinstance(value, str) else value


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore")


class TextPart(_Body):
    """One part of a message's content; only text is understood."""

    type: Literal["text"]
    text: str


class ChatMessage(_Body):
    """One message."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Annotated[list[TextPart], Field(max_length=MAX_PARTS)] | None = None

    def to_message(self) -> Message:
        """The message as a value; parts are joined."""
        content = self.content or ""
        text = content if isinstance(content, str) else "".join(part.text for part in content)
        return Message(_ROLES[self.role], text)


class StreamOptions(_Body):
    """What a stream says besides tokens."""

    include_usage: bool = False


class ConditionOption(_Body):
    """A metadata key whose value must be one of some."""

    key: str
    values: Annotated[list[str], Field(max_length=MAX_VALUES)]


class FilterOptions(_Body):
    """Which passages may be found."""

    document_ids: Annotated[list[str], Field(max_length=MAX_VALUES)] = Field(default_factory=list)
    conditions: Annotated[list[ConditionOption], Field(max_length=MAX_CONDITIONS)] = Field(default_factory=list)


class RetrievalOptions(_Body):
    """Weft's own addition: passages are retrieved for the last user message, as in `POST /v1/chat`."""

    index: str = ""
    top_k: int = DEFAULT_RETRIEVED
    filter: FilterOptions = FilterOptions()
    mode: Annotated[SearchMode, BeforeValidator(_plain("SEARCH_MODE_"))] = SearchMode.HYBRID
    min_score: float | None = Field(default=None, allow_inf_nan=False)
    rerank: Annotated[Rerank, BeforeValidator(_plain("RERANK_"))] = Rerank.AS_INDEXED
    max_source_tokens: int = Field(default=0, ge=0, lt=2**32)
    answer_without_sources: bool = False

    def to_retrieval(self) -> Retrieval:
        """The options as a value."""
        return Retrieval(
            index=self.index,
            top_k=self.top_k,
            document_ids=tuple(self.filter.document_ids),
            conditions=tuple(Condition(c.key, tuple(c.values)) for c in self.filter.conditions),
            mode=self.mode,
            min_score=self.min_score,
            rerank=self.rerank,
            max_source_tokens=self.max_source_tokens,
            answer_without_sources=self.answer_without_sources,
        )


class _Sampled(Formed):
    """The fields that chat and text completions share."""

    model: str = ""
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: str | list[str] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    n: int | None = None
    user: str = ""
    # What vLLM's clients send in `extra_body`.
    top_k: int | None = None
    repetition_penalty: float | None = None

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a chunk of usage."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def sampling(self, max_tokens: int | None, logprobs: int | None) -> Sampling:
        """The sampling fields as a value."""
        if self.n not in (None, 1):
            raise InvalidArgument(f"n is {self.n}; one answer per request is served, so leave it out", field="n")
        if self.top_k is not None and self.top_k < -1:
            raise InvalidArgument(f"top_k is {self.top_k}; it has to be at least 1, or 0 or -1 for all", field="top_k")
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k if self.top_k is not None and self.top_k > 0 else None,
            seed=self.seed,
            stop=stop,
            max_tokens=max_tokens,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            repetition_penalty=self.repetition_penalty,
            logprobs=logprobs,
            structure=self.structure(),
        )


class ChatCompletionRequest(_Sampled):
    """POST /v1/chat/completions."""

    messages: list[ChatMessage] = Field(max_length=MAX_MESSAGES)
    max_completion_tokens: int | None = None
    logprobs: bool = False
    top_logprobs: int = 0
    tools: list[Any] | None = None
    retrieval: RetrievalOptions | None = None

    def to_chat(self) -> Chat:
        """The request as a value. Raises InvalidArgument for what is not served."""
        if self.tools:
            raise InvalidArgument("tools are not served; leave them out", field="tools")
        return Chat(
            model=self.model,
            messages=tuple(message.to_message() for message in self.messages),
            sampling=self.sampling(
                self.max_completion_tokens or self.max_tokens, self.top_logprobs if self.logprobs else None
            ),
            tenant=self.user[:128],
            retrieval=self.retrieval.to_retrieval() if self.retrieval else None,
        )


class CompletionRequest(_Sampled):
    """POST /v1/completions."""

    prompt: str | list[str]
    echo: bool = False
    best_of: int | None = None
    suffix: str | None = None
    logprobs: int | None = None

    def to_chat(self) -> Chat:
        """The request as a value. Raises InvalidArgument for what is not served."""
        for name in ("echo", "suffix"):
            if getattr(self, name):
                raise InvalidArgument(f"{name} is not served; leave it out", field=name)
        if self.best_of not in (None, 1):
            raise InvalidArgument("best_of is not served; leave it out", field="best_of")
        prompts = [self.prompt] if isinstance(self.prompt, str) else self.prompt
        if len(prompts) != 1:
            raise InvalidArgument("one prompt per request is served; send the others on their own", field="prompt")
        sampling = self.sampling(self.max_tokens, self.logprobs)
        return Chat(self.model, (), sampling, tenant=self.user[:128], raw_prompt=prompts[0])


def parse(kind: type[_T], body: bytes, limit_bytes: int) -> _T:
    """The body as `kind`. Raises InvalidArgument, naming the first wrong field.

    A body over `limit_bytes` is refused unread: parsing it would hold up every other answer.
    """
    if len(body) > limit_bytes:
        text = f"the body has {len(body):,} bytes, and {limit_bytes:,} are allowed; shorten the prompt"
        raise InvalidArgument(text, reason="PROMPT_TOO_LONG", field="body")
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        where = f"{field}: " if field else "the body: "
        raise InvalidArgument(f"{where}{first['msg']}", field=field or "body") from error
