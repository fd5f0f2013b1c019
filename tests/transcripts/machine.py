"""Runs a transcript: lines of what happens, and under each the lines of what the core then says.

`t=1.2 fail w1 unavailable` is an event at 1.2 s; lines that begin with `  ` are what came of it. Blank lines and lines
that begin with `#` are kept. The words are the methods of `Machine` below, each with its arguments as `name=value`.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import replace

from services.router.core.admit import AdmissionQueue, Joined, QueueLimits, Ticket
from services.router.core.breaker import Breaker, BreakerLimits
from services.router.core.budget import RetryBudget
from services.router.core.chat import Chat, FinishReason, Message, Priority, Role, Sampling, Usage
from services.router.core.health import Heartbeat, PulseLimits
from services.router.core.pick import Refusal, Wanted
from services.router.core.placer import Placed, Placer
from services.router.core.policies import Weights
from services.router.core.recover import Ended, Failure, FailureKind, History, Resume, Retry, after, is_charged, recover
from services.router.core.table import WorkerTable
from services.router.core.worker import Hello, Load

MODEL = "m"


def replay(text: str) -> str:
    """The transcript with what the core says now in place of what it said when the transcript was written."""
    machine, lines = Machine(), []
    for line in text.splitlines():
        if line.startswith("  "):
            continue
        lines.append(line)
        if line.strip() and not line.startswith("#"):
            lines += [f"  {said}" for said in machine.line(line)]
    return "\n".join(lines) + "\n"


class Machine:
    """The core's pieces, driven by words."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.table = WorkerTable(16)
        self.placer = Placer(self.table, "least_loaded", Weights(), random.Random(0))
        self.queue = AdmissionQueue(QueueLimits(requests=4, tokens=1000, wait_s=10.0))
        self.budget = RetryBudget(share=0.5, per_s=0.0, window_s=10.0)
        self.breakers: dict[str, Breaker] = {}
        self.hearts: dict[str, Heartbeat] = {}
        self.placed: dict[str, Placed] = {}
        self.tickets: dict[str, Ticket] = {}
        self.histories: dict[str, History] = {}

    def line(self, line: str) -> Iterator[str]:
        """Performs one line; what came of it."""
        time, word, *arguments = line.split()
        self.now_s = float(time.removeprefix("t="))
        names = [a for a in arguments if "=" not in a]
        options = dict(a.split("=") for a in arguments if "=" in a)
        run: Callable[..., Iterator[str]] = getattr(self, f"do_{word}")
        yield from run(*names, **options)

    # What happens to workers.

    def do_policy(self, name: str) -> Iterator[str]:
        """Places by this policy from now on."""
        self.placer = Placer(self.table, name, Weights(), random.Random(0))
        yield from ()

    def do_up(self, worker: str, running: str = "4", waiting: str = "2", process: str = "1") -> Iterator[str]:
        """A worker's link comes up."""
        self.table.announce(worker, f"{worker}:1", self.now_s)
        hello = Hello(worker, process, MODEL, "sim", int(running), int(waiting), 4096, tokenizer_fingerprint="t")
        self.table.link_up(worker, hello, self.now_s)
        self.hearts[worker] = Heartbeat(PulseLimits(silent_s=1.0, stall_s=5.0, probe_s=30.0), 0.0, self.now_s)
        self.breakers.setdefault(worker, Breaker(BreakerLimits(failures=2, open_s=1.0, longest_open_s=4.0)))
        yield self._state(worker)

    def do_down(self, worker: str) -> Iterator[str]:
        """A worker's link is lost."""
        self.table.link_down(worker, "link lost", self.now_s)
        yield self._state(worker)

    def do_load(
        self, worker: str, running: str = "0", waiting: str = "0", step: str = "0", broken: str = ""
    ) -> Iterator[str]:
        """A worker reports."""
        load = Load(int(running), int(waiting), step_count=int(step), broken=broken)
        self.table.report(worker, load)
        self.hearts[worker].stepped(int(step), self.now_s)
        yield from self.do_look(worker)

    def do_drain(self, worker: str) -> Iterator[str]:
        """An operator drains a worker."""
        self.table.drain(worker)
        yield self._state(worker)

    def do_look(self, worker: str) -> Iterator[str]:
        """The monitor looks at a worker."""
        row = self.table.get(worker)
        assert row is not None
        pulse = self.hearts[worker].check(row.load.running + row.load.waiting > 0, self.now_s)
        reason = pulse.value or ("breaker open" if not self.breakers[worker].lets_through(self.now_s) else "")
        self.table.suspect(worker, reason)
        yield self._state(worker)

    def _state(self, worker: str) -> str:
        row = self.table.get(worker)
        assert row is not None
        return f"{worker} {row.state.value}{f' ({row.state_reason})' if row.state_reason else ''} busy={row.busy}"

    # What happens to answers.

    def do_place(self, answer: str, tokens: str = "10", session: str = "", text: str = "x") -> Iterator[str]:
        """An answer looks for a worker."""
        history = self.histories.setdefault(answer, History())
        tried = frozenset(w for w in self.table._rows if f"{answer}:{w}" in self.placed)
        chat = Chat(
            MODEL,
            (Message(Role.USER, text * 100),),
            Sampling(max_tokens=int(tokens)),
            session_id=session,
        )
        fingerprint = "t" if history.tokens_sent else ""
        found = self.placer.place(Wanted(MODEL, tried, fingerprint), self.placer.need(chat), self.now_s)
        if isinstance(found, Refusal):
            yield f"no worker: {found.kind.value}"
            return
        self.placed[answer] = found
        self.placed[f"{answer}:{found.worker.worker_id}"] = found
        self.breakers[found.worker.worker_id].placed(self.now_s)
        yield f"{answer} on {found.worker.worker_id} busy={found.worker.busy}"

    def do_finish(self, answer: str) -> Iterator[str]:
        """An answer is complete."""
        placed = self.placed.pop(answer)
        self.placer.release(placed, finished=True, output_tokens=10)
        self.breakers[placed.worker.worker_id].succeeded()
        yield self._state(placed.worker.worker_id)

    def do_fail(self, answer: str, kind: str, sent: str = "0") -> Iterator[str]:
        """An answer fails on its worker after so many tokens."""
        placed, failure = self.placed.pop(answer), Failure(FailureKind(kind), kind)
        worker = placed.worker.worker_id
        self.placer.release(placed, finished=False)
        if failure.kind in (FailureKind.UNAVAILABLE, FailureKind.INTERNAL, FailureKind.STALLED):
            self.breakers[worker].failed(self.now_s)
        history = self.histories[answer]
        history = replace(history, tokens_sent=int(sent))
        step = recover(failure, history, "t", failure_limit=3)
        charged = is_charged(failure, history)
        self.histories[answer] = after(failure, history)
        if isinstance(step, Retry | Resume) and charged and not self.budget.retry(self.now_s):
            yield f"{answer} gives up: the retry budget is spent"
            return
        words = {"Retry": "tries another", "Resume": f"goes on after {sent} tokens", "GiveUp": "gives up"}
        name = type(step).__name__
        yield f"{answer} {words.get(name, 'ends')}{' (charged)' if charged and name in ('Retry', 'Resume') else ''}"
        yield f"{worker} breaker {self.breakers[worker].state.value}"

    def do_end(self, answer: str, reason: str) -> Iterator[str]:
        """The worker ends an answer."""
        step = recover(Ended(FinishReason(reason), Usage()), self.histories[answer], "t", failure_limit=3)
        yield f"{answer} {type(step).__name__.lower()}"

    # What happens to the queue and the budget.

    def do_request(self, count: str = "1") -> Iterator[str]:
        """Requests arrive, which fill the retry budget."""
        for _ in range(int(count)):
            self.budget.request(self.now_s)
        yield repr(self.budget)

    def do_join(
        self, name: str, tenant: str = "", priority: str = "NORMAL", tokens: str = "10", within: str = "60"
    ) -> Iterator[str]:
        """A request joins the queue."""
        found = self.queue.join(Priority[priority], tenant, int(tokens), self.now_s, self.now_s + float(within))
        if not isinstance(found, Joined):
            wait = "unknown" if found.expected_wait_s is None else f"{found.expected_wait_s:.1f} s"
            yield f"{name} shed: {found.why.value} (expected wait {wait})"
            return
        self.tickets[name] = found.ticket
        for ticket in found.displaced:
            yield f"{self._name(ticket)} displaced"
        yield f"{name} waits at {self.queue.position(found.ticket.number)} of {len(self.queue)}"

    def do_serve(self) -> Iterator[str]:
        """Whoever is first is placed."""
        ticket = next(iter(self.queue), None)
        if ticket is None:
            yield "nobody waits"
            return
        self.queue.served(ticket, self.now_s)
        yield f"{self._name(ticket)} is served"

    def do_leave(self, name: str) -> Iterator[str]:
        """A client leaves the queue."""
        self.queue.leave(self.tickets[name].number)
        yield f"{len(self.queue)} wait"

    def do_settle(self, name: str, tokens: str) -> Iterator[str]:
        """An answer that was queued is over, and took so many tokens."""
        self.queue.settle(self.tickets[name], int(tokens))
        yield from ()

    def do_lapse(self) -> Iterator[str]:
        """Whose time is over leaves."""
        late = [ticket for ticket in self.queue if ticket.expires_s <= self.now_s]
        for ticket in sorted(late, key=lambda ticket: ticket.number):
            self.queue.leave(ticket.number)
            yield f"{self._name(ticket)} lapsed"
        if not late:
            yield "nobody"

    def _name(self, ticket: Ticket) -> str:
        return next(name for name, known in self.tickets.items() if known.number == ticket.number)
