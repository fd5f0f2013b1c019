"""Performs the core's placing: a worker picked and its load reserved in one breath, and all who care are told."""

from dataclasses import replace

from services.kit.clock import Now
from services.kit.errors import WeftError
from services.kit.settings.router import RouterSettings
from services.router.case import Case, Placed
from services.router.core.chat import Chat, FinishReason
from services.router.core.pick import Pick, Refusal, Wanted, refusal_of, resolve_model
from services.router.core.placer import Need, Placer
from services.router.core.prompt import INSTRUCTIONS, Room
from services.router.core.recover import Ended, Failure, FailureKind, Outcome
from services.router.core.table import WorkerTable
from services.router.core.worker import WorkerState
from services.router.metrics import RouterMetrics
from services.router.monitor import Monitor
from services.router.refusals import refused
from services.router.waiting import WaitingRoom

REASONS_LIMIT = 3
"""Different reasons that an error names where a model's workers are not well."""


class Placing:
    """The shell around the core's placer: clock, monitor, queue and metrics."""

    def __init__(
        self,
        table: WorkerTable,
        placer: Placer,
        monitor: Monitor,
        room: WaitingRoom,
        settings: RouterSettings,
        metrics: RouterMetrics,
        now: Now,
    ) -> None:
        self._table = table
        self._placer = placer
        self._monitor = monitor
        self._room = room
        self._settings = settings
        self._metrics = metrics
        self._now = now

    @property
    def policy(self) -> str:
        """The policy's name."""
        return self._placer.policy

    def model(self, name: str) -> str:
        """The model's full name. Raises the error for one that nobody ever served."""
        found = resolve_model(name, self._table.models, self._table.adapters)
        if isinstance(found, Refusal):
            raise self.error(found)
        return found

    def error(self, refusal: Refusal) -> WeftError:
        """What a refusal says to the caller."""
        suspects = [row for row in self._table if row.serves(refusal.model) and row.state is WorkerState.SUSPECT]
        why = "; ".join(sorted({row.state_reason for row in suspects})[:REASONS_LIMIT])
        return refused(refusal, sorted(self._table.models), self._settings.no_worker_retry_s, why)

    def need(self, chat: Chat) -> Need:
        """What the prompt takes, wherever it goes."""
        return self._placer.need(chat)

    def room(self, chat: Chat) -> Room:
        """What is known of the room that the chat leaves in its model's context: the smallest of those that serve."""
        contexts = [row.hello.context_tokens for row in self._table if row.hello is not None and row.serves(chat.model)]
        prompt_bytes = sum(len(message.content.encode()) for message in chat.messages) + len(INSTRUCTIONS)
        smallest = min((tokens for tokens in contexts if tokens), default=0)
        estimates = self._placer.estimates
        answer_tokens = chat.sampling.max_tokens or estimates.output_tokens(chat.model, None)
        # Callers who ask for the longest answer there can be still want their sources.
        answer_tokens = min(answer_tokens, smallest // 4)
        taken_tokens = estimates.prompt_tokens(chat.model, prompt_bytes) + answer_tokens
        return Room(smallest, taken_tokens, estimates.bytes_per_token(chat.model))

    def cost(self, case: Case) -> int:
        """Tokens that the request is expected to take in all, for its place in the queue."""
        return self._placer.tokens(case.chat.model, case.need)

    def explain(self, chat: Chat) -> Pick:
        """The pick that would be made now; nothing is reserved. Raises the error for an unknown model."""
        chat = replace(chat, model=self.model(chat.model))
        return self._placer.explain(_wanted(chat), self._placer.need(chat), self._now())

    def place(self, case: Case) -> Placed | Refusal:
        """A worker with the load reserved on it, or why there is none now."""
        found = self._placer.place(self._wanted(case), case.need, self._now())
        if isinstance(found, Refusal):
            return found
        worker_id = found.worker.worker_id
        self._monitor.placed(worker_id)
        self._metrics.picks.labels(worker_id).inc()
        return Placed(found, found.worker.epoch)

    def started(self, placed: Placed, prompt_tokens: int, cached_tokens: int) -> None:
        """The worker took the request."""
        self._placer.started(placed.core, prompt_tokens, cached_tokens)

    def first_token(self, placed: Placed) -> None:
        """The first token came from the worker."""
        self._placer.first_token(placed.core, self._now())

    def refusal(self, case: Case) -> Refusal | None:
        """Why nobody could take the request now; None where somebody could. Reserves nothing."""
        return refusal_of(self._table.rows, self._wanted(case))

    def release(self, placed: Placed, outcome: Outcome | None, output_tokens: int = 0) -> None:
        """The request left the worker, and ended so, or (None) the client left. Somebody who waits may have its place.

        Every `place` is followed by one of these: the table, the breaker and the queue all rely on it.
        """
        finished = _verdict(outcome)
        self._placer.release(placed.core, finished=finished, output_tokens=output_tokens)
        # What these say of their worker, the link's own state, the pulse and the load say already.
        lost = isinstance(outcome, Failure) and outcome.kind in _KNOWN_OTHERWISE
        self._monitor.ended(placed.worker.worker_id, None if lost else finished)
        self._room.pump(*placed.worker.names)

    def _wanted(self, case: Case) -> Wanted:
        tried = {name for name, epoch in case.failed_on.items() if self._is_same_link(name, epoch)}
        return _wanted(case.chat, frozenset(tried), case.fingerprint)

    def _is_same_link(self, worker_id: str, epoch: int) -> bool:
        row = self._table.get(worker_id)
        return row is not None and row.epoch == epoch


def _wanted(chat: Chat, tried: frozenset[str] = frozenset(), fingerprint: str = "") -> Wanted:
    """What the chat needs of a worker; `fingerprint` is that of the tokens which it goes on from."""
    sampling, resumes = chat.sampling, bool(fingerprint)
    structure = sampling.structure is not None
    return Wanted(
        chat.model,
        tried,
        fingerprint,
        structure,
        sampling.logprobs is not None,
        resumes and bool(sampling.presence_penalty or sampling.frequency_penalty),
        resumes and structure,
    )


_KNOWN_OTHERWISE = (FailureKind.LINK_LOST, FailureKind.STALLED, FailureKind.BROKEN)
_WORKERS_DOING = (*_KNOWN_OTHERWISE, FailureKind.UNAVAILABLE, FailureKind.INTERNAL)


def _verdict(outcome: Outcome | None) -> bool | None:
    """Whether the worker did its work; None where the end was not its doing."""
    if outcome is None:
        return None
    if isinstance(outcome, Ended):
        return True if outcome.reason is not FinishReason.CANCELLED else None
    return False if outcome.kind in _WORKERS_DOING else None
