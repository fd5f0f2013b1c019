"""What a client asks for, and how an answer can end, as plain values."""

from dataclasses import dataclass, field
from enum import Enum, IntEnum


class Priority(IntEnum):
    """Who goes first; a higher class goes before a lower one whenever both wait."""

    BATCH = 1
    NORMAL = 2
    INTERACTIVE = 3
    RECOVERING = 4
    """An answer that lost its worker: its client has been let in already, and may be reading."""


class Role(Enum):
    """Who wrote a message."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


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
    """How to choose tokens and when to stop. None leaves it to the worker; ranges stand in chat.proto."""

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
class Condition:
    """A metadata key whose value must be one of some."""

    key: str
    values: tuple[str, ...]


class SearchMode(Enum):
    """How to search."""

    HYBRID = "hybrid"
    DENSE = "dense"
    BM25 = "bm25"


class Rerank(Enum):
    """How to order what was found; retriever.proto says what each is."""

    AS_INDEXED = "as_indexed"
    NONE = "none"
    MMR = "mmr"
    CROSS_ENCODER = "cross_encoder"


@dataclass(frozen=True, slots=True)
class Retrieval:
    """What to look up before the answer; `top_k` from 1 to 20.

    `min_score` None leaves it to the index, `max_source_tokens` 0 to the settings.
    """

    index: str = ""
    top_k: int = 5
    document_ids: tuple[str, ...] = ()
    conditions: tuple[Condition, ...] = ()
    mode: SearchMode = SearchMode.HYBRID
    min_score: float | None = None
    rerank: Rerank = Rerank.AS_INDEXED
    max_source_tokens: int = 0
    answer_without_sources: bool = False


@dataclass(frozen=True, slots=True)
class Chat:
    """A checked request. `model` may be empty; `raw_prompt` replaces the messages for text completions."""

    model: str
    messages: tuple[Message, ...]
    sampling: Sampling = field(default_factory=Sampling)
    tenant: str = ""
    session_id: str = ""
    retrieval: Retrieval | None = None
    timeout_s: float | None = None
    raw_prompt: str | None = None
    priority: Priority = Priority.NORMAL


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that an answer took."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0


class FinishReason(Enum):
    """Why an answer ended well."""

    STOP = "stop"
    LENGTH = "length"
    DEADLINE = "deadline"
    CANCELLED = "cancelled"
    NOTHING_FOUND = "nothing_found"
