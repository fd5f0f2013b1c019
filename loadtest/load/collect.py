"""Turns ended answers into figures: histograms of the whole run and of each group, and a timeline."""

from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from loadtest.load.histogram import Histogram, Times, gaps_s
from loadtest.load.record import OK, Record

SLICE_S = 1.0
"""Width of the timeline's slices."""
HISTOGRAMS = ("ttft", "ttft_sent", "lag", "itl", "chunk_gap", "tpot", "e2e", "queue", "longest_gap")
"""The histograms among the fields of Figures."""
EXAMPLES = 5
"""Details that are kept of each kind of error."""


@dataclass(frozen=True, slots=True)
class Objectives:
    """What an answer has to keep to count as good; None does not matter. Times in seconds."""

    ttft_s: float | None = None
    itl_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None

    def __bool__(self) -> bool:
        return any(value is not None for value in (self.ttft_s, self.itl_s, self.tpot_s, self.e2e_s))


@dataclass(slots=True)
class Figures:
    """What is known of some answers.

    `ttft` and `e2e` count from when a request was due, `ttft_sent` from when it was sent: the difference is what the
    generator and the connection made it wait, which a closed loop would hide. `itl` has every token but the first, 0
    for those that share a chunk; `chunk_gap` has every chunk but the first; `tpot` is an answer's mean time a token
    after the first; `longest_gap` each answer's longest silence.
    """

    sent: int = 0
    ok: int = 0
    good: int = 0
    tokens: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    lost: int = 0
    repeated: int = 0
    short: int = 0
    coalesced: int = 0
    moved: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)
    workers: Counter[str] = field(default_factory=Counter)
    ttft: Histogram = field(default_factory=Histogram)
    ttft_sent: Histogram = field(default_factory=Histogram)
    lag: Histogram = field(default_factory=Histogram)
    itl: Histogram = field(default_factory=Histogram)
    chunk_gap: Histogram = field(default_factory=Histogram)
    tpot: Histogram = field(default_factory=Histogram)
    e2e: Histogram = field(default_factory=Histogram)
    queue: Histogram = field(default_factory=Histogram)
    longest_gap: Histogram = field(default_factory=Histogram)

    @property
    def failed(self) -> int:
        """Answers that did not end with OK."""
        return self.sent - self.ok


@dataclass(slots=True)
class Slice:
    """One slice of the timeline, by when things happened. `in_flight` is counted at its end."""

    due: int = 0
    sent: int = 0
    ended: int = 0
    failed: int = 0
    tokens: int = 0
    moved: int = 0
    in_flight: int = 0
    ttfts_s: "array[float]" = field(default_factory=lambda: array("d"))
    longest_gap_s: float = 0.0


class Life(NamedTuple):
    """One answer in short: when it was due and ended, its longest silence, and what became of it."""

    due_s: float
    ended_s: float
    gap_at_s: float
    gap_s: float
    moves: int
    code: str
    lost: int
    repeated: int
    hosts: tuple[tuple[float, str], ...] = ()

    def host_at(self, at_s: float) -> str:
        """The worker that had it then; empty before it had one, and where the transport does not say."""
        return next((worker for since_s, worker in reversed(self.hosts) if since_s <= at_s), "")


class Collector:
    """Takes each answer when it has ended. The cost of a token here is part of a sum over its whole answer."""

    def __init__(self, objectives: Objectives) -> None:
        self.objectives = objectives
        self.whole = Figures()
        self.groups: dict[str, Figures] = {}
        self.slices: list[Slice] = []
        self.lives: list[Life] = []

    def __repr__(self) -> str:
        return f"Collector(sent={self.whole.sent} ok={self.whole.ok})"

    def slice_at(self, at_s: float) -> Slice:
        """The timeline's slice that holds this moment."""
        number = max(0, int(at_s / SLICE_S))
        while len(self.slices) <= number:
            self.slices.append(Slice())
        return self.slices[number]

    def tokens_between(self, start_s: float, end_s: float) -> float:
        """Tokens that came in this stretch, whoever they were for; a slice that is cut counts by its share."""
        found = 0.0
        for number, one in enumerate(self.slices):
            begin_s = number * SLICE_S
            found += one.tokens * max(0.0, min(end_s, begin_s + SLICE_S) - max(start_s, begin_s)) / SLICE_S
        return found

    def take(self, record: Record) -> None:
        """One ended answer."""
        times: Times = np.array(record.times, dtype=np.float64)
        counts: NDArray[np.uint32] = np.array(record.counts, dtype=np.uint32)
        group = self.groups.get(record.request.group)
        if group is None:
            group = self.groups[record.request.group] = Figures()
        tokens = int(counts.sum())
        gaps = gaps_s(times, counts) if tokens > 1 else np.empty(0)
        chunk_gaps = np.diff(times)
        good = self._is_good(record, tokens, gaps)
        for figures in (self.whole, group):
            _count(figures, record, tokens)
            figures.good += good
            figures.itl.record_all(gaps)
            figures.chunk_gap.record_all(chunk_gaps)
        self.lives.append(self._life(record, chunk_gaps))
        self._timeline(record, times, counts, chunk_gaps)

    def _is_good(self, record: Record, tokens: int, gaps: Times) -> bool:
        """Whether a whole answer kept every objective; the one for ITL holds for its 99th percentile."""
        wanted, due_s = self.objectives, record.request.due_s
        if record.code != OK:
            return False
        tpot_s = (record.times[-1] - record.first_s) / (tokens - 1) if tokens > 1 else 0.0
        return (
            (wanted.ttft_s is None or (record.first_s or record.ended_s) - due_s <= wanted.ttft_s)
            and (wanted.e2e_s is None or record.ended_s - due_s <= wanted.e2e_s)
            and (wanted.tpot_s is None or tpot_s <= wanted.tpot_s)
            and (wanted.itl_s is None or not gaps.size or float(np.quantile(gaps, 0.99)) <= wanted.itl_s)
        )

    @staticmethod
    def _life(record: Record, gaps: Times) -> Life:
        """Before its first token an answer is silent from when it was due."""
        worst, at_s = int(np.argmax(gaps)) if gaps.size else -1, record.request.due_s
        first_s = (record.first_s or record.ended_s) - at_s
        gap_s = first_s
        if worst >= 0 and gaps[worst] > first_s:
            gap_s, at_s = float(gaps[worst]), record.times[worst]
        request, code = record.request, record.code
        counts = record.moves, code, record.gaps, record.repeats
        hosts = list(record.hosts)
        if hosts and record.first_s and record.worker and record.worker != hosts[-1][1]:
            # Nobody is told that an answer went elsewhere before its first token; who ended it had it from there on.
            hosts.append((record.first_s, record.worker))
        return Life(request.due_s, record.ended_s, at_s, gap_s, *counts, tuple(hosts))

    def _timeline(self, record: Record, times: Times, counts: NDArray[np.uint32], gaps: Times) -> None:
        self.slice_at(record.request.due_s).due += 1
        if record.sent_s:
            self.slice_at(record.sent_s).sent += 1
        ended = self.slice_at(record.ended_s)
        ended.ended += 1
        ended.failed += record.code != OK
        ended.moved += record.moves
        if record.times:
            first = self.slice_at(record.first_s)
            first.ttfts_s.append(record.first_s - record.request.due_s)
            found = np.bincount((times / SLICE_S).astype(np.int64), weights=counts)
            self.slice_at(float(times[-1]))
            for number in np.nonzero(found)[0].tolist():
                self.slices[number].tokens += int(found[number])
            if gaps.size:
                worst = int(np.argmax(gaps))
                where = self.slice_at(float(times[worst + 1]))
                where.longest_gap_s = max(where.longest_gap_s, float(gaps[worst]))


def _count(figures: Figures, record: Record, tokens: int) -> None:
    due_s = record.request.due_s
    figures.sent += 1
    figures.ok += record.code == OK
    figures.codes[record.code] += 1
    figures.reasons[record.reason or record.code] += 1
    if record.code != OK:
        examples = figures.examples.setdefault(record.code, [])
        if len(examples) < EXAMPLES and record.detail not in examples:
            examples.append(record.detail)
    figures.tokens += tokens
    figures.prompt_tokens += record.prompt_tokens
    figures.cached_tokens += record.cached_tokens
    figures.lost += record.gaps
    figures.repeated += record.repeats
    if record.code == OK and record.indexed:
        figures.short += max(0, record.completion_tokens - tokens)
    figures.coalesced += record.coalesced
    figures.moved += record.moves
    figures.workers[record.worker or "unknown"] += 1
    if record.sent_s:
        figures.lag.record(record.sent_s - due_s)
    if record.times:
        figures.ttft.record(record.first_s - due_s)
        figures.ttft_sent.record(record.first_s - record.sent_s)
        if record.code == OK:
            figures.e2e.record(record.ended_s - due_s)
        if tokens > 1:
            figures.tpot.record((record.times[-1] - record.first_s) / (tokens - 1))
            figures.longest_gap.record(record.longest_gap_s)
    if record.queue_s:
        figures.queue.record(record.queue_s)
