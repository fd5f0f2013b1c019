"""A request's life: retrieve, pick, relay, recover. It performs what the core decides and touches no token."""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import replace

import structlog

from services.kit.clock import Now
from services.kit.errors import DeadlineExceeded, WeftError
from services.kit.settings.router import RouterSettings
from services.router.answer import Answer
from services.router.core.chat import Chat, FinishReason, Usage
from services.router.core.pick import Pick, Refusal, Wanted, pick, refusal, resolve_model
from services.router.core.prompt import Source, grounded, question_of
from services.router.core.recover import Done, Ended, Failure, FailureKind, GiveUp, Outcome, Resume, recover
from services.router.core.table import WorkerTable
from services.router.core.worker import Worker
from services.router.events import Failed, Stage
from services.router.metrics import RouterMetrics
from services.router.ports import Relay, Searcher
from services.router.refusals import gave_up, refused
from weft.retriever.v1.retriever_pb2 import Passage


class Dispatch:
    """Answers chats. One object for the whole router; each request's state is in its `Answer`."""

    def __init__(
        self,
        table: WorkerTable,
        relay: Relay,
        searcher: Searcher,
        settings: RouterSettings,
        metrics: RouterMetrics,
        now: Now,
    ) -> None:
        self._table = table
        self._relay = relay
        self._searcher = searcher
        self._settings = settings
        self._metrics = metrics
        self._now = now
        self._picks = 0
        self._log = structlog.get_logger("dispatch")

    async def run(self, chat: Chat, answer: Answer, deadline_s: float) -> Ended | None:
        """Answers a checked chat until its last event is sent; how it ended, or None where it failed.

        Raises the error, for the caller to turn into a status, where nothing was sent yet; afterwards it is told as
        the `failed` event. Cancelling it stops the engine.
        """
        try:
            ended = await self._answer(chat, answer, deadline_s)
        except WeftError as error:
            self._metrics.answers.labels(chat.model, error.reason).inc()
            if not answer.accepted:
                raise
            self._log.warning("answer_failed", request=answer.request_id, reason=error.reason, message=error.message)
            await answer.fail(Failed(error))
            return None
        self._metrics.answered(chat.model, answer, ended)
        await answer.finish(ended)
        return ended

    def explain(self, chat: Chat) -> Pick:
        """The pick that `run` would make now; nothing is reserved. Raises the error for an unknown model."""
        model = self._model(chat.model)
        return pick(list(self._table), Wanted(model), self._settings.policy, self._picks)

    async def _answer(self, chat: Chat, answer: Answer, deadline_s: float) -> Ended:
        chat = replace(chat, model=self._model(chat.model))
        if chat.retrieval is not None:
            passages = await self._retrieve(chat, answer, deadline_s)
            if answer.cancelled:
                return Ended(FinishReason.CANCELLED, Usage())
            sources = [Source(p.title or p.source, " > ".join(p.heading_path), p.text) for p in passages]
            chat = grounded(chat, sources, self._settings.context_bytes_per_passage)
        tried: set[str] = set()
        fingerprint = ""
        last: Failure | None = None
        while True:
            found = self._pick(Wanted(chat.model, frozenset(tried), fingerprint))
            if isinstance(found, Refusal):
                raise self._refused(found) if last is None else gave_up(last, self._settings.no_worker_retry_s)
            worker, why = found
            tried.add(worker.worker_id)
            answer.placed(worker.worker_id, chat.model, why)
            outcome = await self._place(worker, chat, answer, deadline_s)
            step = recover(
                outcome,
                tokens_sent=len(answer.token_ids),
                fingerprint=worker.hello.tokenizer_fingerprint if worker.hello else "",
                attempts=answer.attempts,
                max_attempts=self._settings.max_attempts,
            )
            if isinstance(step, Done):
                return step.ended
            if isinstance(step, GiveUp):
                raise gave_up(step.failure, self._settings.no_worker_retry_s)
            last = outcome if isinstance(outcome, Failure) else None
            if isinstance(step, Resume) and last is not None:
                fingerprint = step.fingerprint
                answer.left(worker.worker_id, last.message)
            self._recovering(answer, worker, last)

    def _pick(self, wanted: Wanted) -> tuple[Worker, str] | Refusal:
        """A worker with the load already reserved on it, and why it was chosen."""
        found = pick(list(self._table), wanted, self._settings.policy, self._picks)
        if found.worker is None:
            return refusal(found, wanted)
        self._picks += 1
        self._table.reserve(found.worker.worker_id)
        self._metrics.picks.labels(found.worker.worker_id).inc()
        return found.worker, f"{self._settings.policy}: score {found.candidates[0].score:.2f}"

    async def _place(self, worker: Worker, chat: Chat, answer: Answer, deadline_s: float) -> Outcome:
        """Runs the answer on a worker on which its load is reserved, and releases it."""
        finished: bool | None = None
        try:
            outcome = await self._relay.run(worker, chat, answer, deadline_s)
            finished = _verdict(outcome)
            return outcome
        finally:
            self._table.release(worker.worker_id, finished=finished)

    async def _retrieve(self, chat: Chat, answer: Answer, deadline_s: float) -> Sequence[Passage]:
        """Passages for the chat's question; the client hears `progress` while it takes long."""
        assert chat.retrieval is not None
        left_s = deadline_s - self._now()
        search = asyncio.ensure_future(self._searcher.search(question_of(chat), chat.retrieval, left_s))
        try:
            while not search.done():
                await asyncio.wait({search}, timeout=min(self._settings.progress_every_s, max(0.0, left_s)))
                if answer.cancelled:
                    return ()
                if deadline_s <= self._now():
                    raise DeadlineExceeded("the deadline passed during retrieval", reason="DEADLINE")
                if not search.done():
                    await answer.progress(Stage.RETRIEVING)
            passages = search.result()
        finally:
            search.cancel()
            with contextlib.suppress(asyncio.CancelledError, WeftError):
                await search
        answer.found(passages)
        return passages

    def _model(self, model: str) -> str:
        found = resolve_model(model, self._table.models)
        if isinstance(found, Refusal):
            raise self._refused(found)
        return found

    def _refused(self, refusal: Refusal) -> WeftError:
        return refused(refusal, sorted(self._table.models), self._settings.no_worker_retry_s)

    def _recovering(self, answer: Answer, worker: Worker, failure: Failure | None) -> None:
        kind = failure.kind if failure else FailureKind.INTERNAL
        self._metrics.recoveries.labels(kind.value, "resume" if answer.token_ids else "retry").inc()
        self._log.warning(
            "answer_recovers",
            request=answer.request_id,
            worker=worker.worker_id,
            kind=kind.value,
            tokens=len(answer.token_ids),
        )


def _verdict(outcome: Outcome) -> bool | None:
    """Whether the worker did its work; None where the end was not its doing."""
    if isinstance(outcome, Ended):
        return True if outcome.reason is not FinishReason.CANCELLED else None
    return False if outcome.kind in (FailureKind.LINK_LOST, FailureKind.UNAVAILABLE, FailureKind.INTERNAL) else None
