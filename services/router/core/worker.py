"""What the router knows of one worker: a plain record that the table keeps and the pick reads."""

from dataclasses import dataclass, field
from enum import Enum


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


@dataclass(slots=True)
class Worker:
    """One row of the worker table. Only the table changes it.

    `since_s` is when its process was first seen and `away_since_s` when its link was lost, on the router's clock.
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

    def __repr__(self) -> str:
        return f"Worker({self.worker_id} {self.state.value} in_flight={self.in_flight} load={self.load.running})"

    @property
    def model(self) -> str:
        """The model that it serves, or served when it was last seen."""
        return self.hello.model if self.hello else ""

    @property
    def places(self) -> int:
        """Requests that it takes at the same time, waiting ones included."""
        return self.hello.max_running + self.hello.max_waiting if self.hello else 0

    @property
    def busy(self) -> int:
        """Requests on it: the larger of what it reports and what this router has placed there.

        A report lags behind the router's own picks, and other routers' requests show only in the report.
        """
        return max(self.in_flight, self.load.running + self.load.waiting)
