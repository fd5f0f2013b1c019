"""Places requests: keeps what a pick needs to know between picks, and reserves the load in the same breath.

It waits for nothing and sends nothing; time is an argument, and chance comes with the generator that it is built with.
"""

import random
from dataclasses import dataclass, field

from services.router.core import reservation
from services.router.core.chat import Chat
from services.router.core.estimate import Estimates
from services.router.core.pick import Chosen, Pick, Refusal, Wanted, explain, pick
from services.router.core.policies import USES_PREFIXES, Ask, Weights
from services.router.core.prefix import BLOCK_BYTES, block_hashes, prompt_bytes
from services.router.core.rates import Rates, Speed
from services.router.core.reason import reason
from services.router.core.reservation import Reservation
from services.router.core.table import WorkerTable
from services.router.core.worker import Worker


@dataclass(frozen=True, slots=True)
class Need:
    """What a prompt takes, whichever worker it goes to; made once for each request."""

    prompt_bytes: int
    hashes: tuple[int, ...]
    session_id: str = ""
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Placed:
    """A request on a worker, its load reserved; `why` says in a few words why there."""

    worker: Worker
    why: str
    need: Need
    model: str
    reservation: Reservation


@dataclass(slots=True)
class _Model:
    """What is kept for one model: the last worker chosen, and how fast its workers are on the whole."""

    last: str = ""
    rates: Rates = field(default_factory=Rates)


class Placer:
    """One object for all models of a table. `policy` is a name in `policies.POLICIES`."""

    def __init__(self, table: WorkerTable, policy: str, weights: Weights, rng: random.Random) -> None:
        self._table = table
        self._weights = weights
        self.speed_at_first = Speed(0.0, 1.0 / weights.prefill_tokens_per_s)
        self._rng = rng
        self._models: dict[str, _Model] = {}
        self.policy = policy
        self.estimates = Estimates()

    def __repr__(self) -> str:
        return f"Placer({self.policy} {self._table.prefixes} {self.estimates})"

    def need(self, chat: Chat) -> Need:
        """Hashes the prompt where the policy asks for it: some 3 µs a KB."""
        data = prompt_bytes(chat)
        adapter = chat.model if chat.model in self._table.adapters else ""
        hashes = block_hashes(data, adapter) if self.policy in USES_PREFIXES else ()
        return Need(len(data), hashes, chat.session_id, chat.sampling.max_tokens)

    def tokens(self, model: str, need: Need) -> int:
        """Tokens that a request is expected to take in all: its whole prompt, and its answer."""
        output_tokens = self.estimates.output_tokens(model, need.max_tokens)
        return self.estimates.prompt_tokens(model, need.prompt_bytes) + output_tokens

    def explain(self, wanted: Wanted, need: Need, now_s: float) -> Pick:
        """What `place` would do now, with everyone who was looked at. Nothing is reserved, and no chance is used up."""
        rng = random.Random()  # noqa: S311 - placing is no secret
        rng.setstate(self._rng.getstate())
        return explain(self._table.rows, wanted, self.policy, self._ask(wanted, need, now_s, rng))

    def place(self, wanted: Wanted, need: Need, now_s: float) -> Placed | Refusal:
        """Picks a worker and reserves the load on it."""
        ask = self._ask(wanted, need, now_s, self._rng)
        chosen = pick(self._table.rows, wanted, self.policy, ask)
        if isinstance(chosen, Refusal):
            return chosen
        worker = chosen.worker
        self._model(wanted.model).last = worker.worker_id
        uncached_tokens = ask.prompt_tokens - ask.cached_tokens.get(worker.worker_id, 0)
        reserved = self._table.reserve(worker.worker_id, uncached_tokens, ask.output_tokens, now_s)
        self._remember(worker, need)
        return Placed(worker, self._why(chosen), need, wanted.model, reserved)

    def started(self, placed: Placed, prompt_tokens: int, cached_tokens: int) -> None:
        """The worker took the request and counted its prompt; 0 where it did not count."""
        if prompt_tokens <= 0:
            reservation.started(placed.reservation, placed.reservation.uncached_tokens)
            return
        self.estimates.prompt_counted(placed.model, placed.need.prompt_bytes, prompt_tokens)
        # A worker that cannot tell yet says 0 cached, which is no reason to distrust what is known of it.
        uncached_tokens = min(prompt_tokens, placed.reservation.uncached_tokens)
        if cached_tokens > 0:
            uncached_tokens = prompt_tokens - cached_tokens
        reservation.started(placed.reservation, uncached_tokens)

    def first_token(self, placed: Placed, now_s: float) -> None:
        """The first token came: the prompt is prefilled."""
        tokens, elapsed_s = reservation.first_token(placed.reservation), now_s - placed.reservation.placed_s
        model = self._model(placed.model)
        model.rates.prefilled(tokens, elapsed_s, now_s, self.speed_at_first)
        placed.worker.rates.prefilled(tokens, elapsed_s, now_s, model.rates.speed or self.speed_at_first)

    def release(self, placed: Placed, *, finished: bool | None, output_tokens: int = 0) -> None:
        """The answer left the worker; see `WorkerTable.release`. The length of a finished one is learned."""
        self._table.release(placed.reservation, finished=finished)
        if finished and output_tokens > 0:
            self.estimates.answer_ended(placed.model, output_tokens)

    def _ask(self, wanted: Wanted, need: Need, now_s: float, rng: random.Random) -> Ask:
        model = self._model(wanted.model)
        prompt_tokens = self.estimates.prompt_tokens(wanted.model, need.prompt_bytes)
        per_block = BLOCK_BYTES / self.estimates.bytes_per_token(wanted.model)
        matched = self._table.prefixes.match(need.hashes) if need.hashes else {}
        return Ask(
            prompt_tokens=prompt_tokens,
            output_tokens=self.estimates.output_tokens(wanted.model, need.max_tokens),
            cached_tokens={name: min(prompt_tokens, round(blocks * per_block)) for name, blocks in matched.items()},
            session_id=need.session_id,
            fleet=model.rates.speed or self.speed_at_first,
            usual_tokens=model.rates.tokens / model.rates.count if model.rates.count else 0.0,
            last=model.last,
            now_s=now_s,
            weights=self._weights,
            rng=rng,
        )

    def _remember(self, worker: Worker, need: Need) -> None:
        """The worker will hold this prompt soon; one that reports its cache itself is believed rather than guessed."""
        prefixes = self._table.prefixes
        if worker.hello is not None and worker.hello.kv_events:
            prefixes.touch(worker.worker_id, need.hashes)
        else:
            prefixes.store(worker.worker_id, need.hashes)

    def _why(self, chosen: Chosen) -> str:
        return f"{self.policy}: {reason(self.policy, chosen.parts)}"

    def _model(self, model: str) -> _Model:
        """Models are those that the table knows, which bounds them."""
        found = self._models.get(model)
        if found is None:
            found = self._models[model] = _Model()
        return found
