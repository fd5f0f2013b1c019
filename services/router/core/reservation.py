"""One answer's load on a worker, from the pick that reserves it until the answer leaves.

A worker's report holds the requests that it had acknowledged (`Started`) when it was sent; what was placed since is
added to it here. Each step happens at most once for a reservation, so no count goes below zero and none is left over.

    placed ──started──> acknowledged ──report──> reported
       └───────first token: its prompt is prefilled, wherever it stands
       └───────released: everything it still holds is given back
"""

from dataclasses import dataclass
from enum import Enum

from services.router.core.worker import Worker


class Standing(Enum):
    """How much the worker's reports know of a reservation."""

    PLACED = "placed"
    ACKNOWLEDGED = "acknowledged"
    REPORTED = "reported"
    RELEASED = "released"


@dataclass(slots=True, eq=False)
class Reservation:
    """What one answer holds on one worker; tokens are estimates until the worker has counted them.

    `ahead_tokens` were waiting for prefill when it was placed; -1 where it had to wait for a place to run as well, so
    that its first token says nothing about the speed of prefill.
    """

    worker: Worker
    uncached_tokens: int
    output_tokens: int
    placed_s: float
    ahead_tokens: int
    standing: Standing = Standing.PLACED
    prefilled: bool = False

    def __repr__(self) -> str:
        return f"Reservation({self.worker.worker_id} {self.standing.value} uncached={self.uncached_tokens})"


def reserve(worker: Worker, uncached_tokens: int, output_tokens: int, now_s: float) -> Reservation:
    """Puts the load on the worker."""
    runs_at_once = worker.hello is None or worker.busy < worker.hello.max_running
    ahead_tokens = worker.pending_tokens if runs_at_once else -1
    found = Reservation(worker, max(0, uncached_tokens), max(0, output_tokens), now_s, ahead_tokens)
    worker.in_flight += 1
    worker.unreported += 1
    worker.unreported_tokens += found.uncached_tokens
    worker.prefill_tokens += found.uncached_tokens
    worker.output_tokens += found.output_tokens
    return found


def started(found: Reservation, uncached_tokens: int) -> None:
    """The worker acknowledged the request and counted its prompt: its next report holds it."""
    if found.standing is not Standing.PLACED:
        return
    worker, more = found.worker, max(0, uncached_tokens) - found.uncached_tokens
    if not found.prefilled:
        worker.unreported_tokens += more
        worker.prefill_tokens += more
    found.uncached_tokens += more
    found.standing = Standing.ACKNOWLEDGED
    worker.acknowledged[found] = None


def reported(worker: Worker) -> None:
    """A report came, and holds whatever was acknowledged before it."""
    for found in worker.acknowledged:
        found.standing = Standing.REPORTED
        _known(found)
    worker.acknowledged.clear()


def first_token(found: Reservation) -> int:
    """The prompt is prefilled: so many tokens were, since the answer was placed; 0 where that says nothing of speed."""
    if found.prefilled or found.standing is Standing.RELEASED:
        return 0
    found.prefilled = True
    found.worker.prefill_tokens -= found.uncached_tokens
    if found.standing is not Standing.REPORTED:
        found.worker.unreported_tokens -= found.uncached_tokens
    if found.ahead_tokens < 0:
        return 0
    return found.ahead_tokens + found.uncached_tokens


def release(found: Reservation) -> bool:
    """Takes the load off the worker; False where that was done before."""
    if found.standing is Standing.RELEASED:
        return False
    worker = found.worker
    worker.in_flight -= 1
    worker.output_tokens -= found.output_tokens
    if not found.prefilled:
        worker.prefill_tokens -= found.uncached_tokens
    if found.standing is not Standing.REPORTED:
        _known(found)
        worker.acknowledged.pop(found, None)
    found.standing = Standing.RELEASED
    return True


def _known(found: Reservation) -> None:
    """The request no longer has to be added to the worker's reports."""
    found.worker.unreported -= 1
    if not found.prefilled:
        found.worker.unreported_tokens -= found.uncached_tokens
