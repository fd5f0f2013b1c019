"""Which worker a request goes to: filter, score, choose. Reserving is the caller's, in the same breath."""

from collections.abc import Collection, Sequence, Set
from dataclasses import dataclass
from enum import Enum

from services.router.core.policies import POLICIES, WAITS, Ask, Parts, nearly, parts
from services.router.core.worker import Worker, WorkerState


class Lost(Enum):
    """Why a worker was not chosen, in words for `ExplainPick`."""

    CHOSEN = ""
    OTHER_MODEL = "serves another model"
    NOT_SERVING = "does not take requests now"
    TRIED = "was tried already"
    FULL = "is full"
    SUSPECT = "is suspect"
    NO_STRUCTURE = "cannot hold an answer to a form"
    NO_LOGPROBS = "has no log probabilities"
    CANNOT_COUNT = "cannot count penalties over tokens of another worker"
    CANNOT_REPLAY = "cannot go on within an answer that has a form"
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
    CANNOT_REPLAY = "cannot_replay"
    NO_STRUCTURE = "no_structure"
    NO_LOGPROBS = "no_logprobs"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a request needs: the model, a worker that was not tried, and, to resume, an equal tokenizer.

    `model` may name an adapter. A request that is resumed with penalties or a structure needs a worker that replays
    them over the tokens of another.
    """

    model: str
    tried: frozenset[str] = frozenset()
    fingerprint: str = ""
    structure: bool = False
    logprobs: bool = False
    replays_penalties: bool = False
    replays_structure: bool = False


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
    """No worker can take the request now.

    `particular`: it lost some workers for reasons of its own, which others that wait may not share.
    """

    kind: RefusalKind
    model: str
    particular: bool = False


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


def resolve_model(model: str, known: Collection[str], adapters: Set[str] = frozenset()) -> str | Refusal:
    """The model's full name: an empty one stands for the only model there is, adapters not counted."""
    if model:
        return model if model in known else Refusal(RefusalKind.UNKNOWN_MODEL, model)
    names = sorted(name for name in known if name not in adapters)
    if len(names) == 1:
        return names[0]
    return Refusal(RefusalKind.MODEL_NOT_NAMED if names else RefusalKind.NO_WORKER, "")


def pick(workers: Sequence[Worker], wanted: Wanted, policy: str, ask: Ask) -> Chosen | Refusal:
    """Chooses among workers that are in order of their ids: the best score; see `_best` for ties.

    The same arguments, the state of `ask.rng` included, always give the same answer.
    """
    fit = [worker for worker in workers if filtered(worker, wanted) is Lost.CHOSEN]
    if not fit:
        return refusal({filtered(worker, wanted) for worker in workers}, wanted)
    scores = POLICIES[policy](fit, ask)
    worker = _best(fit, scores, policy, ask)
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
    chosen = _best(fit, scores, policy, ask)
    found = [
        Candidate(worker, score, Lost.CHOSEN if worker is chosen else Lost.LOWER_SCORE, made_of)
        for worker, score, made_of in zip(fit, scores, parts(fit, ask), strict=True)
    ]
    found.sort(key=lambda c: (c.lost is not Lost.CHOSEN, -c.score, c.worker.worker_id))
    return Pick(chosen, (*found, *out))


def _best(fit: Sequence[Worker], scores: Sequence[float], policy: str, ask: Ask) -> Worker:
    """The best score. Of equals the least crowded, then the one with the fewest answers behind it: an idle fleet takes
    turns.

    Where scores are waits, those are equals that differ by less than first tokens vary anyway. Otherwise a worker that
    was slow at its first few answers would be left alone, and all the others' load would lie on one.
    """
    least = nearly(max(scores), ask.weights) if policy in WAITS else max(scores)
    equals = [worker for worker, score in zip(fit, scores, strict=True) if score >= least]
    return min(equals, key=lambda worker: (_crowded(worker, policy), worker.finished + worker.failed, worker.worker_id))


def _crowded(worker: Worker, policy: str) -> float:
    """Share of what it can run at once that it has, where the policy's own score did not say that exactly."""
    if policy not in WAITS or worker.hello is None:
        return 0.0
    return worker.busy / max(1, worker.hello.max_running)


def filtered(worker: Worker, wanted: Wanted) -> Lost:
    """Why this worker cannot take the request: what it never can before what it cannot now. CHOSEN where it can."""
    hello = worker.hello
    if hello is None or (hello.model != wanted.model and wanted.model not in hello.adapters):
        return Lost.OTHER_MODEL
    if wanted.structure and not hello.structured_output:
        return Lost.NO_STRUCTURE
    if wanted.logprobs and not hello.logprobs:
        return Lost.NO_LOGPROBS
    if wanted.replays_penalties and not hello.replays_penalties:
        return Lost.CANNOT_COUNT
    if wanted.replays_structure and not hello.replays_structure:
        return Lost.CANNOT_REPLAY
    if worker.worker_id in wanted.tried:
        return Lost.TRIED
    if worker.state is not WorkerState.SERVING:
        return Lost.SUSPECT if worker.state is WorkerState.SUSPECT else Lost.NOT_SERVING
    if wanted.fingerprint and hello.tokenizer_fingerprint != wanted.fingerprint:
        return Lost.OTHER_TOKENIZER
    if worker.busy >= worker.places:
        return Lost.FULL
    return Lost.CHOSEN


def refusal(reasons: Set[Lost], wanted: Wanted) -> Refusal:
    """Why nobody was chosen: what none of them can ever do; else full where anyone is, else suspect, tried, or away."""
    return Refusal(_kind(reasons - {Lost.OTHER_MODEL}), wanted.model, bool(reasons & _PARTICULAR))


def _kind(reasons: Set[Lost]) -> RefusalKind:
    if reasons and reasons <= _NEVER.keys():
        return next(kind for lost, kind in _NEVER.items() if lost in reasons)
    if Lost.FULL in reasons:
        return RefusalKind.FULL
    if Lost.SUSPECT in reasons:
        return RefusalKind.SUSPECT
    if Lost.OTHER_TOKENIZER in reasons:
        return RefusalKind.CANNOT_RESUME
    return RefusalKind.ALL_TRIED if Lost.TRIED in reasons else RefusalKind.AWAY


_NEVER = {
    Lost.CANNOT_REPLAY: RefusalKind.CANNOT_REPLAY,
    Lost.CANNOT_COUNT: RefusalKind.CANNOT_REPLAY,
    Lost.NO_STRUCTURE: RefusalKind.NO_STRUCTURE,
    Lost.NO_LOGPROBS: RefusalKind.NO_LOGPROBS,
}
"""What a worker cannot do at any time, and what it means where no worker of the model can."""
HOPELESS = frozenset(_NEVER.values())
"""Refusals that no wait would change."""
_PARTICULAR = _NEVER.keys() | {Lost.TRIED, Lost.OTHER_TOKENIZER}
