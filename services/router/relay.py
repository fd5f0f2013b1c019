"""Moves one answer's tokens from its worker's link to its client. It decides nothing: the outcome goes to dispatch."""

import asyncio
from functools import partial

from services.kit.clock import Now
from services.router.answer import Answer
from services.router.case import Placed
from services.router.convert import start_message
from services.router.core.chat import Chat
from services.router.core.recover import Failure, FailureKind, Outcome
from services.router.events import Stage
from services.router.fleet import Fleet
from services.router.flow import Flow
from services.router.hedge import Hedge, Opened
from services.router.ports import Hedging, Ran

STUCK_TICKS_LIMIT = 15
"""Ticks for which a client may take nothing after its answer is over; then its call is dropped."""


class LinkRelay:
    """Runs answers over the fleet's links. `tick_s` is how often a silent answer is looked at."""

    def __init__(self, fleet: Fleet, now: Now, *, tick_s: float, buffer_bytes: int) -> None:
        self._fleet = fleet
        self._now = now
        self._tick_s = tick_s
        self._buffer_bytes = buffer_bytes

    async def run(self, placed: Placed, chat: Chat, answer: Answer, deadline_s: float, hedging: Hedging | None) -> Ran:
        """See ports.Relay."""
        opened = self.open(placed, chat, answer, deadline_s)
        if opened is None:
            name = placed.worker.worker_id
            return Ran(Failure(FailureKind.LINK_LOST, f"the link to {name} is down", "LINK_LOST"), placed)
        answer.attach(opened.flow)
        watch = _Watch(opened.flow, max(0.0, deadline_s - self._now()), self._tick_s)
        second = None
        if hedging is not None and not answer.token_ids:
            second = Hedge(hedging, opened.flow, lambda other: self.open(other, chat, answer, deadline_s))
        try:
            outcome = await self._move(opened.flow, answer)
            winner = second.winner(outcome) if second is not None else None
            if second is None or winner is None:
                return Ran(outcome, placed)
            loser, placed = placed, winner.placed
            # From here on the reservation that dispatch releases is the winner's, however this ends.
            answer.moved_to(placed)
            second.release(loser, outcome)
            answer.attach(winner.flow)
            watch.follow(winner.flow)
            try:
                return Ran(await self._move(winner.flow, answer), placed)
            finally:
                winner.leave()
        finally:
            watch.stop()
            opened.leave()
            if second is not None:
                second.close()

    def open(self, placed: Placed, chat: Chat, answer: Answer, deadline_s: float) -> Opened | None:
        """Starts the request on the worker's link; None where the link is down."""
        link = self._fleet.link(placed.worker.worker_id)
        if link is None:
            return None
        with_logprobs = chat.sampling.logprobs is not None
        flow = Flow(len(answer.token_ids), self._buffer_bytes, logprobs=with_logprobs)
        left_s = max(0.0, deadline_s - self._now())
        hello = placed.worker.hello
        text = "".join(answer.text) if answer.text and hello is not None and hello.text_only else ""
        number = link.start(flow, start_message(chat, answer.request_id, answer.token_ids, text, left_s))
        return Opened(placed, flow, partial(link.leave, number))

    async def _move(self, flow: Flow, answer: Answer) -> Outcome:
        push, tokens = answer.push, answer.tokens
        if answer.text is not None:
            push, tokens = answer.push_kept, answer.tokens_kept
        while True:
            await flow.wait()
            if flow.prompt_tokens is not None:
                prompt_tokens, flow.prompt_tokens = flow.prompt_tokens, None
                await answer.begin(prompt_tokens, flow.cached_tokens)
                if answer.client.pushes:
                    flow.pushes_to(push)
            if flow.texts:
                await tokens(*flow.take())
            elif flow.outcome is not None:
                return flow.outcome
            elif flow.ticked:
                await answer.progress(Stage.DECODE if answer.token_ids else Stage.PREFILL)
            flow.ticked = False


class _Watch:
    """One answer's timers: its deadline, and a tick where nothing came since the last one. Neither costs a token."""

    def __init__(self, flow: Flow, left_s: float, tick_s: float) -> None:
        self._flow = flow
        self._tick_s = tick_s
        self._seen_index = -1
        self._stuck_ticks = 0
        self._task = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.call_later(left_s, self._expire)
        self._timer = self._loop.call_later(tick_s, self._tick)

    def _expire(self) -> None:
        self._flow.abandon(
            Failure(FailureKind.DEADLINE, "the deadline passed before the answer was complete", "DEADLINE")
        )

    def _tick(self) -> None:
        if self._flow.outcome is not None:
            # The relay is still at it, so it waits for a client that takes nothing, not even the end.
            self._stuck_ticks += 1
            if self._stuck_ticks == STUCK_TICKS_LIMIT and self._task is not None:
                self._task.cancel()
        elif self._flow.next_index == self._seen_index:
            self._flow.tick()
        self._seen_index = self._flow.next_index
        self._timer = self._loop.call_later(self._tick_s, self._tick)

    def follow(self, flow: Flow) -> None:
        """Watches another flow from now on."""
        self._flow = flow

    def stop(self) -> None:
        """Cancels both timers."""
        self._deadline.cancel()
        self._timer.cancel()
