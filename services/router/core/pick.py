"""Which worker a request goes to: filter, score, choose. Reserving is the caller's, in the same breath."""

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from enum import Enum

from services.router.core.policies import POLICIES, Ask, Parts, parts
from services.router.core.worker import Worker, WorkerState


class Lost(Enum):
    """Why a worker was not chosen, in words for `ExplainPick`."""

    CHOSEN = ""
    OTHER_MODEL = "serves another model"
    NOT_SERVING = "does not take requests now"
    TRIED = "was tried already"
    FULL = "is full"
    SUSPECT = "is suspect"
    CANNOT_RESUME = "cannot count penalties over tokens of another worker"
    OTHER_TOKENIZER = "cannot go on with these tokens"
    LOWER_SCORE = "scored lower"


class RefusalKind(Enum):
    """Why there is no worker for a request."""

    UNKNOWN_MODEL = "unknown_model"
    MODEL_NOT_NAMED = "model_not_named"
    NO_WORKER = "no_worker"
    AWAY = "away"
    FULL = "full"
    SUSPECT = "suspect"
    ALL_TRIED = "all_tried"
    CANNOT_RESUME = "cannot_resume"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a request needs: the model, a worker that was not tried, and, to resume, an equal tokenizer."""

    model: str
    tried: frozenset[str] = frozenset()
    fingerprint: str = ""
    replays_penalties: bool = False


@dataclass(frozen=True, slots=True)
class Candidate:
    """One worker that was looked at, with its score, what that was made of, and why it lost.

    `parts` is None for those that were filtered out.
    """

    worker: Worker
    score: float
    lost: Lost
    parts: Parts | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """No worker can take the request now."""

    kind: RefusalKind
    model: str


@dataclass(frozen=True, slots=True)
class Chosen:
    """The worker to place a request on, its score, and what the score was made of."""

    worker: Worker
    score: float
    parts: Parts


@dataclass(frozen=True, slots=True)
class Pick:
    """The chosen worker, and everyone who was looked at, best first."""

    worker: Worker | None
    candidates: tuple[Candidate, ...]


def resolve_model(model: str, known: Iterable[str]) -> str | Refusal:
    """The model's full name: an empty one stands for the only model there is."""
    names = sorted(known)
    if model:
        return model if model in names else Refusal(RefusalKind.UNKNOWN_MODEL, model)
    if len(names) == 1:
        return names[0]
    return Refusal(RefusalKind.MODEL_NOT_NAMED if names else RefusalKind.NO_WORKER, "")


def pick(workers: Sequence[Worker], wanted: Wanted, policy: str, ask: Ask) -> Chosen | Refusal:
    """Chooses among workers that are in order of their ids: the best score, ties by the fewest answers so far, then id.

    The same arguments, the state of `ask.rng` included, always give the same answer.
    """
    fit = [worker for worker in workers if filtered(worker, wanted) is Lost.CHOSEN]
    if not fit:
        return refusal({filtered(worker, wanted) for worker in workers}, wanted)
    scores = POLICIES[policy](fit, ask)
    worker = _best(fit, scores)
    return Chosen(worker, max(scores), parts([worker], ask)[0])


def refusal_of(workers: Sequence[Worker], wanted: Wanted) -> Refusal | None:
    """Why `pick` would choose nobody; None where it would choose somebody."""
    reasons = {filtered(worker, wanted) for worker in workers}
    return None if Lost.CHOSEN in reasons else refusal(reasons, wanted)


def explain(workers: Sequence[Worker], wanted: Wanted, policy: str, ask: Ask) -> Pick:
    """The pick that `pick` makes of the same arguments, with everyone who was looked at."""
    looked_at = [(worker, filtered(worker, wanted)) for worker in workers]
    fit = [worker for worker, lost in looked_at if lost is Lost.CHOSEN]
    out = [Candidate(worker, 0.0, lost) for worker, lost in looked_at if lost is not Lost.CHOSEN]
    if not fit:
        return Pick(None, tuple(out))
    scores = POLICIES[policy](fit, ask)
    chosen = _best(fit, scores)
    found = [
        Candidate(worker, score, Lost.CHOSEN if worker is chosen else Lost.LOWER_SCORE, made_of)
        for worker, score, made_of in zip(fit, scores, parts(fit, ask), strict=True)
    ]
    found.sort(key=lambda c: (c.lost is not Lost.CHOSEN, -c.score, c.worker.worker_id))
    return Pick(chosen, (*found, *out))


def _best(fit: Sequence[Worker], scores: Sequence[float]) -> Worker:
    """The best score. Of equals the one with the fewest answers behind it, so that an idle fleet takes turns."""
    best = max(scores)
    equals = [worker for worker, score in zip(fit, scores, strict=True) if score == best]
    return min(equals, key=lambda worker: (worker.finished + worker.failed, worker.worker_id))


def filtered(worker: Worker, wanted: Wanted) -> Lost:
    """Why this worker cannot take the request; CHOSEN where it can."""
    hello = worker.hello
    if hello is None or hello.model != wanted.model:
        return Lost.OTHER_MODEL
    if worker.worker_id in wanted.tried:
        return Lost.TRIED
    if worker.state is not WorkerState.SERVING:
        return Lost.SUSPECT if worker.state is WorkerState.SUSPECT else Lost.NOT_SERVING
    if wanted.fingerprint and hello.tokenizer_fingerprint != wanted.fingerprint:
        return Lost.OTHER_TOKENIZER
    if wanted.replays_penalties and not hello.replays_penalties:
        return Lost.CANNOT_RESUME
    if worker.busy >= worker.places:
        return Lost.FULL
    return Lost.CHOSEN


def refusal(reasons: Set[Lost], wanted: Wanted) -> Refusal:
    """Why nobody was chosen: full where anyone is, else suspect, else all tried, else away."""
    if Lost.FULL in reasons:
        return Refusal(RefusalKind.FULL, wanted.model)
    if Lost.SUSPECT in reasons:
        return Refusal(RefusalKind.SUSPECT, wanted.model)
    if Lost.CANNOT_RESUME in reasons or Lost.OTHER_TOKENIZER in reasons:
        return Refusal(RefusalKind.CANNOT_RESUME, wanted.model)
    if Lost.TRIED in reasons:
        return Refusal(RefusalKind.ALL_TRIED, wanted.model)
    return Refusal(RefusalKind.AWAY, wanted.model)
