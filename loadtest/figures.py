"""What the benchmark measures: one value for each run, flat, so that it is a row of a JSON file."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, TypeVar

QUIET_CORES = 0.4
"""A run counts as undisturbed where others used fewer cores than this meanwhile."""


@dataclass(frozen=True, slots=True)
class StreamRun:
    """Many answers at once. `_us` is CPU in µs for each token; `path_us` is all that stands before the workers.

    `lost` is tokens that were due and never came, `wrong` indexes that were not the next one, `failed` answers with an
    error or an end too early, by kind in `errors`. `machine_share` is the busy part of all cores, 0 to 1.
    """

    path: str
    client: str
    streams: int
    tokens: int
    lost: int
    wrong: int
    failed: int
    errors: Mapping[str, int]
    chunks_per_token: float
    tokens_per_s: float
    router_us: float
    envoy_us: float
    path_us: float
    workers_us: float
    client_us: float
    ttft_p50_ms: float
    ttft_p99_ms: float
    itl_p50_ms: float
    itl_p99_ms: float
    itl_max_ms: float
    machine_share: float
    other_cores: float


@dataclass(frozen=True, slots=True)
class RequestRun:
    """Short requests of one token each, one after the other on each of many connections; `_us` is for each request."""

    path: str
    client: str
    requests: int
    failed: int
    errors: Mapping[str, int]
    per_s: float
    router_us: float
    envoy_us: float
    path_us: float
    workers_us: float
    p50_ms: float
    p99_ms: float
    machine_share: float
    other_cores: float


@dataclass(frozen=True, slots=True)
class AddedRun:
    """Time to the first token beyond what a worker's own takes, from pairs of requests that take turns."""

    path: str
    pairs: int
    failed: int
    p50_us: float
    p90_us: float
    machine_share: float
    other_cores: float


@dataclass(slots=True)
class Figures:
    """Everything that one benchmark found. `ttft_ms` is the Python client's, by way in; the first way is a worker's."""

    machine: str = ""
    when: str = ""
    command: str = ""
    ready_s: float = 0.0
    idle_cores: float = 0.0
    idle_mib: dict[str, float] = field(default_factory=dict)
    ttft_ms: dict[str, list[float]] = field(default_factory=dict)
    added: list[AddedRun] = field(default_factory=list)
    requests: list[RequestRun] = field(default_factory=list)
    runs: list[StreamRun] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Figures":
        """The reverse of `to_json`."""
        rows: dict[str, Callable[..., Any]] = {"added": AddedRun, "requests": RequestRun, "runs": StreamRun}
        values: dict[str, Any] = dict(data)
        for key, row in rows.items():
            values[key] = [row(**one) for one in values[key]]
        return cls(**values)


def quantile(values: Iterable[float], share: float) -> float:
    """The value below which this share of the values lies; 0 for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


class Disturbed(Protocol):
    """A run that knows what else the machine did."""

    @property
    def other_cores(self) -> float:
        """Cores that others used meanwhile."""
        ...


RunT = TypeVar("RunT", bound=Disturbed)


def undisturbed(runs: Sequence[RunT]) -> Sequence[RunT]:
    """The runs that count: those that nobody disturbed, or all where every one was."""
    return [run for run in runs if run.other_cores < QUIET_CORES] or runs


def middle(runs: Sequence[RunT], column: Callable[[RunT], float]) -> float:
    """The median over the runs that count."""
    return statistics.median(column(run) for run in undisturbed(runs))
