"""Drains workers: no new picks, and what is left when the limit passes moves elsewhere."""

import asyncio

from services.router.core.recover import Failure, FailureKind
from services.router.core.table import WorkerTable
from services.router.core.worker import Worker
from services.router.ports import Links


class Drains:
    """Owns a timer for each drained worker; `close` cancels them."""

    def __init__(self, table: WorkerTable, links: Links, limit_s: float) -> None:
        self._table = table
        self._links = links
        self._limit_s = limit_s
        self._timers: dict[str, tuple[str, asyncio.TimerHandle]] = {}

    def drain(self, worker_id: str) -> Worker | None:
        """The worker, which gets no more picks; None where it is not known. Again changes nothing."""
        row = self._table.drain(worker_id)
        if row is None or row.hello is None:
            return row
        known = self._timers.get(worker_id)
        if known is None or known[0] != row.hello.incarnation:
            if known is not None:
                known[1].cancel()
            timer = asyncio.get_running_loop().call_later(self._limit_s, self._move, worker_id)
            self._timers[worker_id] = (row.hello.incarnation, timer)
        return row

    def close(self) -> None:
        """Cancels every timer."""
        for _, timer in self._timers.values():
            timer.cancel()

    def _move(self, worker_id: str) -> None:
        del self._timers[worker_id]
        row, link = self._table.get(worker_id), self._links.link(worker_id)
        # A worker whose process is new by now is no longer drained, and keeps what it has.
        if row is not None and row.drained_by_router and link is not None:
            link.abandon(Failure(FailureKind.DRAINED, f"{worker_id} was drained", "WORKER_DRAINED"))
