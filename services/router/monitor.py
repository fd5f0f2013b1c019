"""Watches workers: a hung one loses its answers to others, a broken or silent one gets no new ones."""

import structlog

from services.kit.clock import Now
from services.router.core.breaker import Breaker, BreakerLimits
from services.router.core.health import Heartbeat, Pulse, PulseLimits
from services.router.core.recover import Failure, FailureKind
from services.router.core.table import WorkerTable
from services.router.core.worker import Load, Worker, WorkerState
from services.router.ports import LinkView

BREAKER_OPEN = "its breaker is open: it failed too often in a row"


class Monitor:
    """Each worker's heartbeat and breaker. `check` is to be called every so often."""

    def __init__(self, table: WorkerTable, pulse: PulseLimits, breaker: BreakerLimits, now: Now) -> None:
        self._table = table
        self._links: dict[str, LinkView] = {}
        self._pulse = pulse
        self._breaker = breaker
        self._now = now
        self._hearts: dict[str, Heartbeat] = {}
        self._breakers: dict[str, Breaker] = {}
        self._incarnations: dict[str, str] = {}
        self._broken: set[str] = set()
        self._log = structlog.get_logger("monitor")

    def link_up(self, worker: Worker, link: LinkView) -> None:
        """The worker's link was opened; a new process has a clean record."""
        assert worker.hello is not None, "a link begins with hello"
        self._links[worker.worker_id] = link
        self._hearts[worker.worker_id] = Heartbeat(self._pulse, worker.hello.longest_step_s, self._now())
        if worker.load.broken:
            self._broken.add(worker.worker_id)
        if self._incarnations.get(worker.worker_id) != worker.hello.incarnation:
            self._incarnations[worker.worker_id] = worker.hello.incarnation
            self._breakers[worker.worker_id] = Breaker(self._breaker)

    def link_down(self, worker_id: str) -> None:
        """The worker's link is lost."""
        self._hearts.pop(worker_id, None)
        self._links.pop(worker_id, None)
        self._broken.discard(worker_id)

    def report(self, worker_id: str, load: Load) -> None:
        """The worker pushed its load."""
        self._mend(worker_id, load)
        if (heart := self._hearts.get(worker_id)) is not None:
            heart.stepped(load.step_count, self._now())
            # A hung worker that steps again is well at once, not at the next look.
            row = self._table.get(worker_id)
            if row is not None and row.state is WorkerState.SUSPECT:
                self._look(row)

    def _mend(self, worker_id: str, load: Load) -> None:
        """An engine that was started anew has a clean record, as a new process has."""
        if load.broken:
            self._broken.add(worker_id)
            return
        row = self._table.get(worker_id)
        if worker_id in self._broken and row is not None and row.hello is not None:
            self._broken.discard(worker_id)
            self._hearts[worker_id] = Heartbeat(self._pulse, row.hello.longest_step_s, self._now())
            self._breakers[worker_id] = Breaker(self._breaker)
            self._look(row)

    def placed(self, worker_id: str) -> None:
        """An answer was placed on the worker."""
        if (breaker := self._breakers.get(worker_id)) is not None:
            breaker.placed(self._now())

    def ended(self, worker_id: str, succeeded: bool | None) -> None:
        """An answer left the worker: it did its work, failed, or (None) neither."""
        breaker = self._breakers.get(worker_id)
        if breaker is None:
            return
        if succeeded is None:
            breaker.neither()
        elif succeeded:
            breaker.succeeded()
        else:
            breaker.failed(self._now())
        if (row := self._table.get(worker_id)) is not None:
            self._look(row)

    def check(self) -> bool:
        """Looks at every worker; whether any changed."""
        for worker_id in [worker_id for worker_id in self._breakers if self._table.get(worker_id) is None]:
            del self._breakers[worker_id], self._incarnations[worker_id]
        changed = [self._look(row) for row in self._table]
        return any(changed)

    def _look(self, row: Worker) -> bool:
        heart, breaker = self._hearts.get(row.worker_id), self._breakers.get(row.worker_id)
        link = self._links.get(row.worker_id)
        if heart is None or breaker is None or link is None:
            return False
        has_work = row.load.running + row.load.waiting > 0 or link.under_way > 0
        pulse = heart.check(has_work, self._now())
        reason = pulse.value
        if pulse is Pulse.WELL and not breaker.lets_through(self._now()):
            reason = BREAKER_OPEN
        changed = self._table.suspect(row.worker_id, reason)
        if changed:
            self._log.warning("worker_suspect" if reason else "worker_well", worker=row.worker_id, reason=reason)
        if pulse is Pulse.STALLED and link.under_way:
            text = f"{row.worker_id} hangs: {reason}"
            link.abandon(Failure(FailureKind.STALLED, text, "WORKER_STALLED"))
        return changed
