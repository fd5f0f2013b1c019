"""The worker table: which workers are known, how they are, and how many answers each holds. Time is an argument."""

from collections.abc import Iterator, Set
from dataclasses import dataclass, replace

from services.router.core import reservation
from services.router.core.prefix import PrefixIndex
from services.router.core.rates import Rates
from services.router.core.reservation import Reservation
from services.router.core.worker import CacheChange, Hello, Load, Worker, WorkerState


@dataclass(frozen=True, slots=True)
class TableFull:
    """The table holds as many workers as it may."""

    limit: int


@dataclass(frozen=True, slots=True)
class IdTaken:
    """Another worker, whose link is up, has this id."""

    address: str


class WorkerTable:
    """Rows by worker id, every model that ever had a worker, and what prefixes the workers hold.

    At `limit` rows a new worker is refused; those known keep their rows until `forget` drops them.
    """

    def __init__(self, limit: int, prefix_blocks_per_worker: int = 32_768, worker_queue_limit: int = 1 << 30) -> None:
        self._limit = limit
        self._worker_queue_limit = worker_queue_limit
        self._rows: dict[str, Worker] = {}
        self._in_order: tuple[Worker, ...] | None = None
        self.prefixes = PrefixIndex(prefix_blocks_per_worker)
        self._models: dict[str, float] = {}
        self._adapters: set[str] = set()
        self.version = 0
        """Counts changes that a watcher would see."""

    def __repr__(self) -> str:
        return f"WorkerTable({list(self._rows.values())})"

    def __iter__(self) -> Iterator[Worker]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def rows(self) -> tuple[Worker, ...]:
        """Every row, in order of the ids."""
        if self._in_order is None:
            self._in_order = tuple(sorted(self._rows.values(), key=lambda row: row.worker_id))
        return self._in_order

    def snapshot(self) -> list[Worker]:
        """The rows, in order of the ids, for another thread: nothing of the table changes by it."""
        return sorted(self._rows.values(), key=lambda row: row.worker_id)

    def get(self, worker_id: str) -> Worker | None:
        """The row, if the worker is known."""
        return self._rows.get(worker_id)

    @property
    def models(self) -> dict[str, float]:
        """Every model and adapter that ever had a worker, with the time at which it first had one."""
        return self._models

    @property
    def adapters(self) -> Set[str]:
        """Those of `models` that are adapters wherever they were served."""
        return self._adapters

    def announce(self, worker_id: str, address: str, now_s: float) -> Worker | TableFull | IdTaken:
        """A worker says that it can be dialled at `address`; its row, new or known."""
        row = self._rows.get(worker_id)
        if row is None:
            if len(self._rows) >= self._limit:
                return TableFull(self._limit)
            row = self._rows[worker_id] = Worker(worker_id, address)
            self._in_order = None
            self.version += 1
        elif row.address != address:
            if row.state not in (WorkerState.AWAY, WorkerState.CONNECTING):
                return IdTaken(row.address)
            row.address = address
            self.version += 1
        row.announced_s = now_s
        return row

    def link_up(self, known_as: str, hello: Hello, now_s: float) -> Worker | IdTaken:
        """The worker known as `known_as` opened its link and said who it is; it serves from now on."""
        row = self._rows[known_as]
        other = self._rows.get(hello.worker_id, row)
        if other.linked:
            return IdTaken(other.address)
        if other is not row:
            # The same worker under two names: as it was listed, and as it says itself, with what is known of it.
            del self._rows[known_as]
            other.address, row = row.address, other
        elif known_as != hello.worker_id:
            del self._rows[known_as]
        row.worker_id, row.linked = hello.worker_id, True
        self._rows[hello.worker_id] = row
        self._in_order = None
        if row.hello is None or row.hello.incarnation != hello.incarnation:
            row.restarts += row.hello is not None
            row.since_s = now_s
            row.drained_by_router = False
            row.rates, row.counts_queue = Rates(), False
            self.prefixes.forget(hello.worker_id)
        row.hello = hello
        row.queue_limit = self._worker_queue_limit
        row.load = Load()
        row.epoch += 1
        row.suspicion = ""
        for name in row.names:
            if name not in self._models:
                self._models[name] = now_s
                self._adapters.add(name)
        self._adapters.discard(hello.model)
        self._set_state(row)
        self.version += 1
        return row

    def link_down(self, worker_id: str, reason: str, now_s: float) -> None:
        """The worker's link is lost. What was placed on it is released by whoever placed it."""
        row = self._rows.get(worker_id)
        if row is None:
            return
        if row.state is not WorkerState.AWAY:
            row.away_since_s = now_s
        row.linked = False
        row.state, row.state_reason, row.load = WorkerState.AWAY, reason, Load()
        self.version += 1

    def report(self, worker_id: str, load: Load) -> None:
        """The worker pushed a reading of its load."""
        row = self._rows[worker_id]
        reservation.reported(row)
        row.rates.stepped(load.step_time_s)
        if load != row.load:
            row.counts_queue = row.counts_queue or load.queued_tokens > 0
            # An engine that was started anew may be tried again by whoever it failed.
            row.epoch += bool(row.load.broken and not load.broken)
            row.load = load
            self._set_state(row)
            self.version += 1

    def cache_changed(self, worker_id: str, change: CacheChange) -> None:
        """The worker said what its prefix cache took in or dropped."""
        if change.cleared:
            self.prefixes.forget(worker_id)
        self.prefixes.remove(worker_id, change.removed)
        self.prefixes.store(worker_id, change.stored)

    def full(self, worker_id: str) -> None:
        """The worker refused a request for want of room: it counts as full until its next report says otherwise."""
        row = self._rows.get(worker_id)
        if row is not None and row.hello is not None:
            row.load = replace(row.load, running=row.hello.max_running, waiting=row.hello.max_waiting)
            self.version += 1

    def suspect(self, worker_id: str, reason: str) -> bool:
        """The worker may be hung, or fails too often: no picks while there is a reason. Whether that changed."""
        row = self._rows.get(worker_id)
        if row is None or row.suspicion == reason:
            return False
        row.suspicion = reason
        if row.state not in (WorkerState.AWAY, WorkerState.CONNECTING):
            self._set_state(row)
        self.version += 1
        return True

    def drain(self, worker_id: str) -> Worker | None:
        """Gives the worker no more picks until its process starts anew; None where it is not known."""
        row = self._rows.get(worker_id)
        if row is not None:
            row.drained_by_router = True
            if row.state not in (WorkerState.AWAY, WorkerState.CONNECTING):
                self._set_state(row)
            self.version += 1
        return row

    def reserve(
        self, worker_id: str, uncached_tokens: int = 0, output_tokens: int = 0, now_s: float = 0.0
    ) -> Reservation:
        """An answer was placed on the worker: prompt tokens to prefill, and tokens that the answer may have."""
        found = reservation.reserve(self._rows[worker_id], uncached_tokens, output_tokens, now_s)
        self.version += 1
        return found

    def release(self, found: Reservation, *, finished: bool | None) -> None:
        """An answer left the worker: finished, failed, or (None) neither, since its client left or it was refused.

        Releasing a second time does nothing.
        """
        if not reservation.release(found):
            return
        found.worker.finished += finished is True
        found.worker.failed += finished is False
        self.version += 1

    def forget(self, older_than_s: float) -> list[str]:
        """Drops workers that are away since before `older_than_s` and hold nothing; their ids."""
        gone = [
            row.worker_id for row in self if not row.linked and not row.in_flight and _last_sign_s(row) < older_than_s
        ]
        for worker_id in gone:
            del self._rows[worker_id]
            self._in_order = None
            self.prefixes.forget(worker_id)
            self.version += 1
        return gone

    @staticmethod
    def _set_state(row: Worker) -> None:
        if row.load.draining:
            row.state, row.state_reason = WorkerState.DRAINING, "the worker is stopping"
        elif row.drained_by_router:
            row.state, row.state_reason = WorkerState.DRAINING, "drained by an operator"
        elif row.load.broken:
            row.state, row.state_reason = WorkerState.SUSPECT, f"its engine is broken: {row.load.broken}"
        elif row.suspicion:
            row.state, row.state_reason = WorkerState.SUSPECT, row.suspicion
        else:
            row.state, row.state_reason = WorkerState.SERVING, ""


def _last_sign_s(row: Worker) -> float:
    """When the worker was last known to be there: its link, or its own word."""
    return max(row.away_since_s, row.announced_s)
