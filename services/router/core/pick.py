"""Which worker a request goes to: filter, score, choose. Reserving is the caller's, in the same breath."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from services.router.core.worker import Worker, WorkerState

Score = Callable[[Worker, int], float]
"""A worker's worth for the n-th pick, from 0 (worst) to 1 (best)."""


class Lost(Enum):
    """Why a worker was not chosen, in words for `ExplainPick`."""

    CHOSEN = ""
    OTHER_MODEL = "serves another model"
    NOT_SERVING = "does not take requests now"
    TRIED = "was tried already"
    FULL = "is full"
    OTHER_TOKENIZER = "cannot go on with these tokens"
    LOWER_SCORE = "scored lower"


class RefusalKind(Enum):
    """Why there is no worker for a request."""

    UNKNOWN_MODEL = "unknown_model"
    MODEL_NOT_NAMED = "model_not_named"
    NO_WORKER = "no_worker"
    AWAY = "away"
    FULL = "full"
    ALL_TRIED = "all_tried"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a request needs: the model, a worker that was not tried, and, to resume, an equal tokenizer."""

    model: str
    tried: frozenset[str] = frozenset()
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One worker that was looked at, with its score and why it lost."""

    worker: Worker
    score: float
    lost: Lost


@dataclass(frozen=True, slots=True)
class Refusal:
    """No worker can take the request now."""

    kind: RefusalKind
    model: str


@dataclass(frozen=True, slots=True)
class Pick:
    """The chosen worker, and everyone who was looked at, best first."""

    worker: Worker | None
    candidates: tuple[Candidate, ...]


def least_loaded(worker: Worker, turn: int) -> float:
    """1 for an idle worker, 0 for a full one: the free share of what it can run at once, then of what may wait.

    A worker that still has a place to run beats any that would let the request wait.
    """
    hello = worker.hello
    if hello is None:
        return 0.0
    if worker.busy < hello.max_running:
        return 0.5 + 0.5 * (1.0 - worker.busy / hello.max_running)
    waiting = worker.busy - hello.max_running
    return 0.5 * (1.0 - min(1.0, (waiting + 1) / (hello.max_waiting + 1)))


def round_robin(worker: Worker, turn: int) -> float:
    """The same for every worker: the turn decides in `choose`."""
    return 1.0


POLICIES: Mapping[str, Score] = {"least_loaded": least_loaded, "round_robin": round_robin}


def resolve_model(model: str, known: Iterable[str]) -> str | Refusal:
    """The model's full name: an empty one stands for the only model there is."""
    names = sorted(known)
    if model:
        return model if model in names else Refusal(RefusalKind.UNKNOWN_MODEL, model)
    if len(names) == 1:
        return names[0]
    return Refusal(RefusalKind.MODEL_NOT_NAMED if names else RefusalKind.NO_WORKER, "")


def pick(workers: Sequence[Worker], wanted: Wanted, policy: str, turn: int) -> Pick:
    """Chooses among workers that are in order of their ids; the worker is None where none can take the request.

    `turn` counts the picks made so far. The same arguments always give the same answer.
    """
    score = POLICIES[policy]
    looked_at = [(worker, filtered(worker, wanted)) for worker in workers]
    fit = [worker for worker, lost in looked_at if lost is Lost.CHOSEN]
    chosen = choose(fit, score, policy, turn) if fit else None
    found = [
        Candidate(
            worker,
            score(worker, turn) if lost is Lost.CHOSEN else 0.0,
            Lost.LOWER_SCORE if lost is Lost.CHOSEN and worker is not chosen else lost,
        )
        for worker, lost in looked_at
    ]
    found.sort(key=lambda c: (c.lost is not Lost.CHOSEN, c.lost is not Lost.LOWER_SCORE, -c.score, c.worker.worker_id))
    return Pick(chosen, tuple(found))


def choose(fit: Sequence[Worker], score: Score, policy: str, turn: int) -> Worker:
    """The worker whose turn it is under `round_robin`; otherwise the best score, ties by id."""
    if policy == "round_robin":
        return fit[turn % len(fit)]
    return min(fit, key=lambda worker: (-score(worker, turn), worker.worker_id))


def filtered(worker: Worker, wanted: Wanted) -> Lost:
    """Why this worker cannot take the request; CHOSEN where it can."""
    if worker.model != wanted.model:
        return Lost.OTHER_MODEL
    if worker.worker_id in wanted.tried:
        return Lost.TRIED
    if worker.state is not WorkerState.SERVING:
        return Lost.NOT_SERVING
    if wanted.fingerprint and worker.hello and worker.hello.tokenizer_fingerprint != wanted.fingerprint:
        return Lost.OTHER_TOKENIZER
    if worker.busy >= worker.places:
        return Lost.FULL
    return Lost.CHOSEN


def refusal(found: Pick, wanted: Wanted) -> Refusal:
    """Why nobody was chosen: full where anyone is, else all tried, else away."""
    reasons = {candidate.lost for candidate in found.candidates}
    if Lost.FULL in reasons:
        return Refusal(RefusalKind.FULL, wanted.model)
    if Lost.TRIED in reasons:
        return Refusal(RefusalKind.ALL_TRIED, wanted.model)
    return Refusal(RefusalKind.AWAY, wanted.model)
