"""The policies: each gives every worker that can take a request a score from 0 (worst) to 1 (best).

A score depends on the arguments alone: time, chance and the last pick are among them.
"""

import math
import random
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from services.router.core.rates import Speed
from services.router.core.worker import Worker

STEP_AT_FIRST_S = 0.02
"""Time of a step on a worker that has reported none."""
_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Weights:
    """What the settings say about placing; ranges and meanings stand in services/kit/settings/router.py."""

    recompute: float = 4.0
    crowding: float = 0.1
    wait_scale_s: float = 1.0
    session_bound: float = 1.25
    prefill_tokens_per_s: float = 5000.0
    prefix_blocks_per_worker: int = 32_768


@dataclass(frozen=True, slots=True)
class Ask:
    """One request as the policies see it, and what else a score may depend on.

    `cached_tokens` says how much of the prompt each worker is thought to hold, at most all of it; who holds none may be
    left out.
    `output_tokens` are expected of the answer. `fleet` is the speed of the model's workers on the whole, and
    `usual_tokens` the prompt tokens that one has to prefill until a first token. `last` is the worker that the model's
    last pick chose.
    """

    prompt_tokens: int = 0
    cached_tokens: Mapping[str, int] = field(default_factory=dict)
    session_id: str = ""
    output_tokens: int = 256
    fleet: Speed = field(default_factory=lambda: Speed(0.0, 1 / 5000))
    usual_tokens: float = 0.0
    last: str = ""
    now_s: float = 0.0
    weights: Weights = field(default_factory=Weights)
    rng: random.Random = field(default_factory=lambda: random.Random(0))  # noqa: S311 - placing is no secret


@dataclass(frozen=True, slots=True)
class Parts:
    """What a score was made of: requests on the worker, the prompt's share in its cache, and seconds to wait there.

    `queue_s` passes before the prompt's own prefill begins, and `prefill_s` is that prefill. `crowd_s` is how much
    longer the answer takes after that among those it shares the worker with.
    """

    busy: int
    cached_share: float
    queue_s: float
    prefill_s: float
    crowd_s: float


Scores = Callable[[Sequence[Worker], Ask], list[float]]
"""Scores for workers that are in order of their ids, in the same order."""


def round_robin(fit: Sequence[Worker], ask: Ask) -> list[float]:
    """1 for the worker after the last pick's, in order of ids; 0 comes closer with each step further round."""
    first = next((i for i, worker in enumerate(fit) if worker.worker_id > ask.last), 0)
    return [1.0 - (i - first) % len(fit) / len(fit) for i in range(len(fit))]


def drawn(fit: Sequence[Worker], ask: Ask) -> list[float]:
    """1 for the worker that the lot falls on, 0 for the others."""
    chosen = ask.rng.randrange(len(fit))
    return [float(i == chosen) for i in range(len(fit))]


def least_loaded(fit: Sequence[Worker], ask: Ask) -> list[float]:
    """1 for an idle worker, 0 for a full one: the free share of what it can run at once, then of what may wait.

    A worker that still has a place to run beats any that would let the request wait.
    """
    return [free_share(worker) for worker in fit]


def power_of_two(fit: Sequence[Worker], ask: Ask) -> list[float]:
    """The score of `least_loaded` for two workers that the lot falls on, 0 for the others."""
    chosen = set(ask.rng.sample(range(len(fit)), min(2, len(fit))))
    return [free_share(worker) if i in chosen else 0.0 for i, worker in enumerate(fit)]


def token_aware(fit: Sequence[Worker], ask: Ask) -> list[float]:
    """1 for no wait, 0 for one without end: 1 / (1 + expected wait / `wait_scale_s`).

    The wait is for the tokens that are queued and for those of this prompt that are not cached, at the worker's rate,
    and, `crowding` times as heavy, for others' share of the steps that generate the answer.
    """
    return [_worth(queue_s + prefill_s, crowd_s, ask.weights) for queue_s, prefill_s, crowd_s in _waits(fit, ask)]


def prefix_aware(fit: Sequence[Worker], ask: Ask) -> list[float]:
    """As `token_aware`, with the prompt's own prefill `recompute` times as heavy as the wait for other prompts.

    Computing again what another worker holds delays whoever comes next and fills a second cache, so a cached prefix is
    worth more than the time that it saves this request.
    """
    weights, recompute = ask.weights, ask.weights.recompute
    waits = _waits(fit, ask)
    return [_worth(queue_s + recompute * prefill_s, crowd_s, weights) for queue_s, prefill_s, crowd_s in waits]


def session(fit: Sequence[Worker], ask: Ask) -> list[float]:
    """The worker's place in the session's own order, from near 1 for its home; halved where it is over its bound.

    The order is by rendezvous hashing, weighted by what each can run (Thaler and Ravishankar 1998; Schindelhauer and
    Schomaker 2005): when a worker comes or goes, only the sessions that it wins or held move. The bound is that of
    consistent hashing with bounded loads (Mirrokni, Thorup and Zadimoghaddam 2018): nobody holds more than
    `session_bound` times its fair share. A request without a session goes to the least loaded.
    """
    if not ask.session_id:
        return least_loaded(fit, ask)
    key = int.from_bytes(blake2b(ask.session_id.encode(), digest_size=8).digest(), "little")
    capacities = [max(1, worker.hello.max_running) if worker.hello else 1 for worker in fit]
    largest = max(capacities)
    total, bounded = sum(capacities), ask.weights.session_bound * (sum(worker.busy for worker in fit) + 1)
    scores = []
    for worker, capacity in zip(fit, capacities, strict=True):
        place = _uniform(zlib.crc32(worker.worker_id.encode()) ^ key) ** (largest / capacity)
        within = worker.busy < math.ceil(bounded * capacity / total)
        scores.append(0.5 + 0.5 * place if within else 0.5 * place)
    return scores


POLICIES: Mapping[str, Scores] = {
    "round_robin": round_robin,
    "random": drawn,
    "least_loaded": least_loaded,
    "power_of_two": power_of_two,
    "token_aware": token_aware,
    "prefix_aware": prefix_aware,
    "session": session,
}
WAITS = frozenset({"token_aware", "prefix_aware"})
"""Policies whose scores are made of expected waits."""
USES_PREFIXES = WAITS
"""Policies for which prompts are hashed."""
NEAR_S = 0.02
"""Waits that differ by less are equal: what first tokens of one worker vary by."""


def free_share(worker: Worker) -> float:
    """See `least_loaded`."""
    hello = worker.hello
    if hello is None:
        return 0.0
    busy = worker.busy
    if busy < hello.max_running:
        return 0.5 + 0.5 * (1.0 - busy / hello.max_running)
    return 0.5 * (1.0 - min(1.0, (busy - hello.max_running + 1) / (hello.max_waiting + 1)))


def parts(fit: Sequence[Worker], ask: Ask) -> list[Parts]:
    """What the scores are made of, in the same order."""
    prompt_tokens = max(1, ask.prompt_tokens)
    return [
        Parts(worker.busy, min(1.0, ask.cached_tokens.get(worker.worker_id, 0) / prompt_tokens), *waits)
        for worker, waits in zip(fit, _waits(fit, ask), strict=True)
    ]


def nearly(score: float, weights: Weights) -> float:
    """The score of a wait that is NEAR_S longer."""
    return weights.wait_scale_s * score / (weights.wait_scale_s + NEAR_S * score)


def _worth(wait_s: float, crowd_s: float, weights: Weights) -> float:
    """1 for no wait; it halves at `wait_scale_s`."""
    return weights.wait_scale_s / (weights.wait_scale_s + wait_s + weights.crowding * crowd_s)


def _waits(fit: Sequence[Worker], ask: Ask) -> list[tuple[float, float, float]]:
    """For each worker, seconds until the prompt's prefill begins, seconds that it takes, and those lost to others."""
    cached, prompt_tokens, fleet = ask.cached_tokens, ask.prompt_tokens, ask.fleet
    usual_tokens, now_s = ask.usual_tokens, ask.now_s
    usual_s = fleet.first_s + fleet.token_s * usual_tokens
    step_s = _step_s(fit)
    waits = []
    for worker in fit:
        first_s, token_s = worker.rates.expected(fleet, now_s)
        slowness = (first_s + token_s * usual_tokens) / usual_s if usual_s else 1.0
        own_tokens = prompt_tokens - cached.get(worker.worker_id, 0)
        busy, at_once = worker.busy, worker.hello.max_running if worker.hello else 0
        at_once = at_once or 1
        queue_s = first_s + token_s * worker.pending_tokens
        if busy >= at_once and worker.in_flight:
            # Places come free at the pace at which the expected tokens of those under way are generated.
            answer_s = worker.output_tokens / worker.in_flight * slowness * step_s
            queue_s += (busy - at_once + 1) / at_once * answer_s
        crowd_s = ask.output_tokens * slowness * step_s * busy / at_once
        waits.append((queue_s, token_s * own_tokens, crowd_s))
    return waits


def _step_s(fit: Sequence[Worker]) -> float:
    """Mean time of a step on these workers; a single worker's own swings with what it happens to batch."""
    known = [worker.rates.step_time_s for worker in fit if worker.rates.step_time_s]
    return sum(known) / len(known) if known else STEP_AT_FIRST_S


def _uniform(key: int) -> float:
    """A number in (0, 1) that depends on every bit of the key: SplitMix64's finaliser."""
    key = ((key ^ (key >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    key = ((key ^ (key >> 27)) * 0x94D049BB133111EB) & _MASK
    return ((key ^ (key >> 31)) + 0.5) / (_MASK + 1)
