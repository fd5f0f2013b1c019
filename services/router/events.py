"""An answer's events other than tokens, as plain values. Passages stay the retriever's messages: they pass through."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from services.kit.errors import WeftError
from services.router.core.chat import FinishReason, Usage
from services.router.core.grounding import Grounding
from weft.retriever.v1.retriever_pb2 import Passage


class Stage(Enum):
    """Where a request stands."""

    QUEUED = "queued"
    RETRIEVING = "retrieving"
    PREFILL = "prefill"
    DECODE = "decode"


@dataclass(frozen=True, slots=True)
class Accepted:
    """A worker took the request; `worker_id` is empty while it has none."""

    request_id: str
    worker_id: str
    model: str
    pick_reason: str
    queue_position: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """The request is alive; `queue_position` counts from 1, and is 0 for one that is not queued."""

    stage: Stage
    queue_position: int = 0
    expected_wait_s: float | None = None


@dataclass(frozen=True, slots=True)
class PassagesFound:
    """What retrieval found, numbered from 1."""

    passages: Sequence[Passage]


@dataclass(frozen=True, slots=True)
class Moved:
    """Another worker took over; `index` is the next token's."""

    from_worker_id: str
    to_worker_id: str
    reason: str
    index: int


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds from the request's arrival; `retrieval_s` and `ttft_s` are None where there was none."""

    total_s: float
    ttft_s: float | None
    retrieval_s: float | None


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer is over; `grounding` is None where no retrieval was asked for."""

    reason: FinishReason
    usage: Usage
    timing: Timing
    worker_id: str
    attempts: int
    grounding: Grounding | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The answer failed after it was accepted."""

    error: WeftError


Event = Accepted | Progress | PassagesFound | Moved | Finished | Failed
"""Everything that a client is told besides tokens."""
