"""What the worker's shell asks of an engine, and the values that pass between them. It knows no wire format."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple, Protocol

from services.kit.errors import WeftError


class Role(Enum):
    """Who wrote a message; the values are the names that chat templates use."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns, oldest first, at least one; the engine applies its model's chat template."""

    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Rendered:
    """A prompt that needs no template."""

    text: str


@dataclass(frozen=True, slots=True)
class Tokenised:
    """A prompt in the model's own token ids."""

    ids: tuple[int, ...]


Prompt = Conversation | Rendered | Tokenised


class Form(Enum):
    """What a structure's text is; the values are the contract's names."""

    JSON_SCHEMA = "json_schema"
    JSON_OBJECT = "json_object"
    REGEX = "regex"
    CHOICES = "choices"
    GRAMMAR = "grammar"


@dataclass(frozen=True, slots=True)
class Structure:
    """The form that an answer has to have. `text` is empty for JSON_OBJECT and CHOICES, `choices` for all others."""

    form: Form
    text: str = ""
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to choose tokens and when to stop; None takes the engine's default. Ranges are those of the contract."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    max_tokens: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    logprobs: int | None = None
    structure: Structure | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """One request. `key` is unique in the process; `resume` are the answer's tokens that the client already has.

    `resume_text` is what the client has of their text, for engines that are `text_only`; `resume` then only counts.
    `adapter` is one of the engine's adapters, or empty for the model itself.
    """

    key: int
    prompt: Prompt
    sampling: Sampling
    resume: tuple[int, ...] = ()
    resume_text: str = ""
    adapter: str = ""


class Reason(Enum):
    """Why an answer ended; the values are metric labels."""

    STOP = "stop"
    LENGTH = "length"
    DEADLINE = "deadline"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Finish:
    """A complete or cancelled answer; `completion_tokens` counts the resumed ones too."""

    reason: Reason
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Logprob:
    """Natural logarithm of a token's probability, with the most probable tokens in its place, best first."""

    token_id: int
    text: str
    logprob: float
    alternatives: tuple["Logprob", ...] = ()


class Tokens(NamedTuple):
    """New tokens of one request. A plain tuple, since one is made for each request in each step.

    `first` is the first one's place in the answer. `text` is what they complete: it may be empty, and the last
    delta of an answer may hold text and no token.
    """

    key: int
    first: int
    ids: list[int]
    text: str
    logprobs: tuple[Logprob, ...] = ()


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """How busy an engine is; `step_time_s` is the mean of its latest steps, `kv_usage` a share from 0 to 1."""

    running: int = 0
    waiting: int = 0
    queued_tokens: int = 0
    kv_usage: float = 0.0
    step_count: int = 0
    step_time_s: float = 0.0
    broken: str = ""
    """Why it cannot work now, in one sentence, while it is being started again: no request may be submitted then."""


class Started(NamedTuple):
    """A request that passed the engine's checks; `cached_tokens` is 0 where the engine cannot tell yet."""

    key: int
    prompt_tokens: int
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class CacheChange:
    """Prefixes that the cache holds now, each prompt's first block first, and those that it no longer holds."""

    stored: tuple[int, ...]
    removed: tuple[int, ...]


@dataclass(slots=True)
class Step:
    """What one engine step brought, for all requests. Readers take `started`, then `tokens`, then `ended`."""

    load: EngineLoad
    started: list[Started] = field(default_factory=list)
    tokens: list[Tokens] = field(default_factory=list)
    """At most one entry for each request."""
    ended: list[tuple[int, Finish | WeftError]] = field(default_factory=list)
    """Requests that are over; their keys never come again."""
    cache: CacheChange | None = None
    """For engines that report their prefix cache."""


Sink = Callable[[Step], None]
"""Takes one step, on the event loop's thread. It returns at once and never raises."""


@dataclass(frozen=True, slots=True)
class About:
    """What an engine is and can do; see Hello in the contract. A `longest_step_s` of 0 leaves it to the router."""

    engine: str
    model: str
    max_running: int
    context_tokens: int
    tokenizer_fingerprint: str
    exact_resume: bool = False
    position_keyed_sampling: bool = False
    logprobs: bool = False
    replays_penalties: bool = False
    kv_events: bool = False
    kv_block_size: int = 0
    longest_step_s: float = 0.0
    structured_output: bool = False
    replays_structure: bool = False
    text_only: bool = False
    adapters: tuple[str, ...] = ()


class Engine(Protocol):
    """Generates. It is opened with a `Sink`, to which it hands each step; whoever opened it closes it.

    An engine that breaks ends every request with Unavailable, reason ENGINE_BROKEN, in a step whose load says
    `broken`; when it works again it hands over a step whose load does not. Neither needs a request.
    """

    @property
    def about(self) -> About:
        """Fixed for the life of the process."""

    def submit(self, work: Work) -> None:
        """Takes a request on. Raises a WeftError where it is wrong, or ends it with one in a later step.

        Requests beyond `max_running` wait; the caller bounds how many.
        """

    def cancel(self, key: int) -> None:
        """Stops work on a request; it still ends, CANCELLED, in this or a later step. Unknown keys are ignored."""

    def load(self) -> EngineLoad:
        """How busy it is now."""

    def cached(self) -> tuple[int, ...]:
        """Prefixes that its cache holds, those that would go last first; nothing where it reports none."""
