"""OpenAI's request bodies: read, checked, and turned into the router's own values. Unknown fields are ignored."""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.kit.errors import InvalidArgument
from services.router.core.chat import Chat, Message, Retrieval, Role, Sampling
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
_T = TypeVar("_T", bound=BaseModel)


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


class RetrievalOptions(_Body):
    """Weft's own addition: passages are retrieved for the last user message, as in `POST /v1/chat`."""

    index: str = ""
    top_k: int = 5


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
        options = self.retrieval
        return Chat(
            model=self.model,
            messages=tuple(message.to_message() for message in self.messages),
            sampling=self.sampling(
                self.max_completion_tokens or self.max_tokens, self.top_logprobs if self.logprobs else None
            ),
            tenant=self.user[:128],
            retrieval=Retrieval(index=options.index, top_k=options.top_k) if options else None,
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
