"""A request's life: retrieve, seat, relay, recover. It performs what the core decides and touches no token."""

from dataclasses import replace

import structlog

from services.kit.clock import Now
from services.kit.errors import DeadlineExceeded, WeftError
from services.kit.settings.router import RouterSettings
from services.router.answer import Answer
from services.router.case import Case, Placed
from services.router.core.budget import RetryBudget
from services.router.core.chat import Chat, FinishReason, Retrieval, Usage
from services.router.core.pick import Pick
from services.router.core.recover import (
    Done,
    Ended,
    Failure,
    FailureKind,
    GiveUp,
    Outcome,
    Resume,
    after,
    is_charged,
    recover,
)
from services.router.core.table import WorkerTable
from services.router.events import Failed
from services.router.hedged import Hedged
from services.router.metrics import RouterMetrics
from services.router.placing import Placing
from services.router.ports import Ran, Relay
from services.router.refusals import gave_up
from services.router.seating import Seating
from services.router.sourcing import Sourcing
from services.router.stuck import unless_stuck
from services.router.waiting import WaitingRoom


class Dispatch:
    """Answers chats. One object for the whole router; each request's state is in its `Answer` and its `Case`."""

    def __init__(
        self,
        table: WorkerTable,
        placing: Placing,
        seating: Seating,
        relay: Relay,
        sourcing: Sourcing,
        room: WaitingRoom,
        budget: RetryBudget,
        hedges: RetryBudget,
        settings: RouterSettings,
        metrics: RouterMetrics,
        now: Now,
    ) -> None:
        self._table = table
        self._placing = placing
        self._seating = seating
        self._relay = relay
        self._sourcing = sourcing
        self._room = room
        self._budget = budget
        self._hedges = hedges
        self._settings = settings
        self._metrics = metrics
        self._now = now
        self._log = structlog.get_logger("dispatch")

    async def run(self, chat: Chat, answer: Answer, deadline_s: float) -> Ended | None:
        """Answers a checked chat until its last event is sent; how it ended, or None where it failed.

        Raises the error, for the caller to turn into a status, where nothing was sent yet; afterwards it is told as
        the `failed` event. Cancelling it stops the engine.
        """
        self._budget.request(self._now())
        self._hedges.request(self._now())
        try:
            ended = await self._answer(chat, answer, deadline_s)
        except WeftError as error:
            self._metrics.failed(answer, error)
            if not answer.accepted:
                raise
            self._log.warning("answer_failed", request=answer.request_id, reason=error.reason, message=error.message)
            async with unless_stuck():
                await answer.fail(Failed(error))
            return None
        if answer.given is not None:
            answer.grounding = await self._sourcing.check("".join(answer.text or ()), answer.given)
        self._metrics.answered(answer, ended)
        async with unless_stuck():
            await answer.finish(ended)
        return ended

    def explain(self, chat: Chat) -> Pick:
        """See Placing.explain."""
        return self._placing.explain(chat)

    async def _answer(self, chat: Chat, answer: Answer, deadline_s: float) -> Ended:
        chat = replace(chat, model=self._placing.model(chat.model))
        answer.model = chat.model
        if chat.retrieval is not None:
            found = await self._found(chat, chat.retrieval, answer, deadline_s)
            if isinstance(found, Ended):
                return found
            chat = found
        case = Case(chat, deadline_s, self._placing.need(chat))
        try:
            return await self._serve(case, answer)
        except DeadlineExceeded:
            # It passed while the answer waited for its next worker: what there is of it stands.
            if not answer.token_ids:
                raise
            return Ended(FinishReason.DEADLINE, answer.usage)
        finally:
            self._seating.settle(case, answer.prompt_tokens + len(answer.token_ids))

    async def _serve(self, case: Case, answer: Answer) -> Ended:
        """One worker after the other, until the answer has ended. Raises where it fails for good."""
        while True:
            placed = await self._seating.seat(case, answer)
            if placed is None:
                return self._cancelled(answer)
            answer.placed(placed, self._placing)
            ran = await self._run(placed, case, answer)
            ended = self._recover(ran.outcome, ran.placed, case, answer)
            if ended is not None:
                return ended

    async def _run(self, placed: Placed, case: Case, answer: Answer) -> Ran:
        """Runs the answer on a worker on which its load is reserved, and releases it."""
        outcome: Outcome | None = None
        try:
            hedging = self._hedging(placed, case)
            ran = await self._relay.run(placed, case.chat, answer, case.deadline_s, hedging)
            outcome = ran.outcome
            return ran
        finally:
            # A hedge may have put the answer on another worker, whose reservation it is by now.
            self._placing.release(answer.on, outcome, len(answer.token_ids))

    def _hedging(self, placed: Placed, case: Case) -> "Hedged | None":
        if not self._settings.failover.hedge_after_s or case.recovers:
            return None
        return Hedged(
            self._settings.failover.hedge_after_s, case, placed, self._placing, self._room, self._hedges, self._now
        )

    def _recover(self, outcome: Outcome, placed: Placed, case: Case, answer: Answer) -> Ended | None:
        """How the answer ended; None where the case is ready for its next worker. Raises where it fails for good."""
        worker = placed.worker
        history = replace(case.history, tokens_sent=len(answer.token_ids))
        fingerprint = worker.hello.tokenizer_fingerprint if worker.hello else ""
        step = recover(outcome, history, fingerprint, self._settings.failover.attempts)
        if isinstance(step, Done):
            return step.ended
        assert isinstance(outcome, Failure), "only a failure is recovered from"
        case.failed(outcome, self._now())
        if isinstance(step, GiveUp):
            raise gave_up(step.failure, self._seating.retry_s(case))
        if is_charged(outcome, history) and not self._budget.retry(self._now()):
            self._metrics.recoveries.labels(outcome.kind.value, "over_budget").inc()
            raise gave_up(outcome, self._seating.retry_s(case))
        case.history = after(outcome, history)
        if outcome.kind is FailureKind.FULL:
            self._table.full(worker.worker_id)
        else:
            case.failed_on[worker.worker_id] = placed.epoch
        if isinstance(step, Resume):
            case.fingerprint = step.fingerprint
            answer.left(worker.worker_id, outcome.message)
        self._metrics.recoveries.labels(outcome.kind.value, "resume" if answer.token_ids else "retry").inc()
        self._log.warning(
            "answer_recovers",
            request=answer.request_id,
            worker=worker.worker_id,
            kind=outcome.kind.value,
            tokens=len(answer.token_ids),
        )
        return None

    async def _found(self, chat: Chat, retrieval: Retrieval, answer: Answer, deadline_s: float) -> Chat | Ended:
        """The chat with its sources, or how the answer ended where there is none to make."""
        passages = await self._sourcing.find(chat, retrieval, answer, deadline_s)
        if answer.cancelled:
            return self._cancelled(answer)
        if not passages and not retrieval.answer_without_sources:
            answer.rests_on(())
            async with unless_stuck():
                await answer.say(self._settings.retrieval.nothing_found)
            return Ended(FinishReason.NOTHING_FOUND, Usage())
        sourced = self._sourcing.prompt(chat, retrieval, passages)
        answer.rests_on(sourced.given)
        return sourced.chat

    @staticmethod
    def _cancelled(answer: Answer) -> Ended:
        return Ended(FinishReason.CANCELLED, answer.usage)
