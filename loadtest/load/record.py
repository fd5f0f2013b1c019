"""One request of a load test, and what its client noticed of the answer."""

from array import array
from dataclasses import dataclass, field
from itertools import pairwise

OK = "OK"
UNANSWERED = "UNANSWERED"
"""The code of an answer that had not ended when the run did."""


@dataclass(frozen=True, slots=True)
class Request:
    """What to ask. `messages` are (role, content) pairs with the roles that OpenAI's API names, oldest first.

    `due_s` is when it ought to be sent, in seconds from the start of the run: latencies count from there, so that
    time which the generator or a full connection costs is not hidden. `group` names the part of the run that it is in.
    """

    number: int
    due_s: float
    messages: tuple[tuple[str, str], ...]
    max_tokens: int
    prompt_tokens: int = 0
    group: str = ""
    session: str = ""
    seed: int | None = None


@dataclass(slots=True)
class Record:
    """One answer as its client saw it; times in seconds from the start of the run, 0.0 where it did not happen.

    `times` holds the moment at which each chunk of tokens was read, `counts` the tokens of each chunk. `gaps` counts
    tokens that were skipped in the indexes, and `repeats` those that came again; both stay 0 where the transport shows
    no indexes, and `coalesced` says then how many tokens shared a chunk with another, as `usage` tells at the end.
    `hosts` says since when which worker had it. `code` is empty while it is under way, then OK or an error's code.
    """

    request: Request
    sent_s: float = 0.0
    accepted_s: float = 0.0
    ended_s: float = 0.0
    code: str = ""
    detail: str = ""
    reason: str = ""
    worker: str = ""
    moves: int = 0
    gaps: int = 0
    repeats: int = 0
    coalesced: int = 0
    indexed: bool = False
    next_index: int = 0
    queue_s: float = 0.0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    hosts: list[tuple[float, str]] = field(default_factory=list)
    times: "array[float]" = field(default_factory=lambda: array("d"))
    counts: "array[int]" = field(default_factory=lambda: array("I"))

    @property
    def tokens(self) -> int:
        """Tokens that came."""
        return sum(self.counts)

    @property
    def first_s(self) -> float:
        """When the first token came; 0.0 where none did."""
        return self.times[0] if self.times else 0.0

    @property
    def longest_gap_s(self) -> float:
        """The longest time between two chunks."""
        times = self.times
        return max((b - a for a, b in pairwise(times)), default=0.0)

    def hosted(self, at_s: float, worker: str) -> None:
        """A worker has it from now on."""
        self.worker = worker
        self.hosts.append((at_s, worker))

    def counted(self, tokens: int) -> None:
        """`usage` says how many tokens came: where chunks have no index, those beyond one a chunk are spread evenly."""
        self.completion_tokens = tokens
        chunks, surplus = len(self.counts), tokens - self.tokens
        if surplus > 0 and chunks and not self.indexed:
            self.coalesced = surplus
            self.counts = array("I", [(n + 1) * tokens // chunks - n * tokens // chunks for n in range(chunks)])

    def token(self, at_s: float, index: int, count: int) -> None:
        """`count` tokens came, the first of them at `index`; an index of -1 is not known and taken to be the next."""
        self.times.append(at_s)
        self.counts.append(count)
        due = self.next_index
        self.indexed = index >= 0
        if index < 0 or index == due:
            self.next_index = due + count
        elif index > due:
            self.gaps += index - due
            self.next_index = index + count
        else:
            self.repeats += min(count, due - index)
            self.next_index = max(due, index + count)
