"""What the router knows of one worker: a plain record that the table keeps and the pick reads."""

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from services.router.core.rates import Rates

if TYPE_CHECKING:
    from services.router.core.reservation import Reservation


class WorkerState(Enum):
    """How a worker is, as `ListWorkers` shows it."""

    CONNECTING = "connecting"
    SERVING = "serving"
    SUSPECT = "suspect"
    DRAINING = "draining"
    AWAY = "away"


@dataclass(frozen=True, slots=True)
class Hello:
    """Who a worker says it is, at the start of a link; meanings stand in worker.proto."""

    worker_id: str
    incarnation: str
    model: str
    engine: str
    max_running: int
    max_waiting: int
    context_tokens: int
    tokenizer_fingerprint: str = ""
    exact_resume: bool = False
    position_keyed_sampling: bool = False
    logprobs: bool = False
    replays_penalties: bool = False
    longest_step_s: float = 0.0
    kv_events: bool = False
    structured_output: bool = False
    replays_structure: bool = False
    text_only: bool = False
    adapters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CacheChange:
    """What a worker says of its prefix cache, by prefix hashes; `cleared` comes before what was stored."""

    stored: tuple[int, ...] = ()
    removed: tuple[int, ...] = ()
    cleared: bool = False


@dataclass(frozen=True, slots=True)
class Load:
    """A worker's latest reading of itself."""

    running: int = 0
    waiting: int = 0
    queued_tokens: int = 0
    kv_usage: float = 0.0
    step_count: int = 0
    step_time_s: float = 0.0
    draining: bool = False
    broken: str = ""


@dataclass(slots=True)
class Worker:
    """One row of the worker table. Only the table changes it.

    `since_s` is when its process was first seen and `away_since_s` when its link was lost, on the router's clock.
    `epoch` counts its links and its engine's returns, so that a worker that comes back can be told from the one that
    failed. At most `queue_limit` requests are left to wait within it: those in the router's own queue can still go
    elsewhere.

    Of the answers placed here: `in_flight` are all of them; `unreported` are in none of the worker's reports yet, with
    `unreported_tokens` of uncached prompt; `prefill_tokens` are uncached prompt tokens of those without a first token;
    `output_tokens` are those expected of all. reservation.py alone changes these, and `acknowledged`.
    """

    worker_id: str
    address: str
    state: WorkerState = WorkerState.CONNECTING
    state_reason: str = ""
    hello: Hello | None = None
    load: Load = field(default_factory=Load)
    in_flight: int = 0
    finished: int = 0
    failed: int = 0
    restarts: int = 0
    since_s: float = 0.0
    away_since_s: float = 0.0
    announced_s: float = 0.0
    drained_by_router: bool = False
    linked: bool = False
    suspicion: str = ""
    epoch: int = 0
    queue_limit: int = 1 << 30
    unreported: int = 0
    unreported_tokens: int = 0
    prefill_tokens: int = 0
    output_tokens: int = 0
    acknowledged: "dict[Reservation, None]" = field(default_factory=dict)
    counts_queue: bool = False
    rates: Rates = field(default_factory=Rates)

    def __repr__(self) -> str:
        return f"Worker({self.worker_id} {self.state.value} in_flight={self.in_flight} load={self.load.running})"

    @property
    def model(self) -> str:
        """The model that it serves, or served when it was last seen."""
        return self.hello.model if self.hello else ""

    @property
    def names(self) -> tuple[str, ...]:
        """What it answers to: its model, and its adapters."""
        return (self.hello.model, *self.hello.adapters) if self.hello else ()

    def serves(self, name: str) -> bool:
        """Whether the name is its model's or one of its adapters'."""
        hello = self.hello
        return hello is not None and (name == hello.model or name in hello.adapters)

    @property
    def places(self) -> int:
        """Requests that this router gives it at the same time, those included that wait in it."""
        return self.hello.max_running + min(self.hello.max_waiting, self.queue_limit) if self.hello else 0

    @property
    def busy(self) -> int:
        """Requests on it: what it reports and what was placed since, never less than this router has there.

        A report lags behind the router's own picks, and other routers' requests show only in the report.
        """
        return max(self.in_flight, self.load.running + self.load.waiting + self.unreported)

    @property
    def pending_tokens(self) -> int:
        """Prompt tokens on it that wait for prefill.

        What it reports and what was placed since; the router's own count for a worker that never reported any.
        """
        if self.counts_queue:
            return self.load.queued_tokens + self.unreported_tokens
        return self.prefill_tokens
