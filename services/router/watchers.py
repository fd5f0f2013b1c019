"""Passes on what happens to links: first to the monitor, then to the waiting room, where somebody may get a place."""

import asyncio

import structlog

from services.router.core.table import WorkerTable
from services.router.core.worker import Load, Worker
from services.router.monitor import Monitor
from services.router.ports import LinkView
from services.router.waiting import WaitingRoom


class Watchers:
    """The fleet's observer, and the clockwork that looks at workers every so often."""

    def __init__(self, table: WorkerTable, monitor: Monitor, room: WaitingRoom) -> None:
        self._table = table
        self._monitor = monitor
        self._room = room
        self._log = structlog.get_logger("watchers")

    def link_up(self, worker: Worker, link: LinkView) -> None:
        """See ports.LinkObserver."""
        self._monitor.link_up(worker, link)
        self._room.pump(*worker.names)

    def link_down(self, worker_id: str) -> None:
        """See ports.LinkObserver."""
        self._monitor.link_down(worker_id)

    def report(self, worker_id: str, load: Load) -> None:
        """See ports.LinkObserver."""
        self._monitor.report(worker_id, load)
        row = self._table.get(worker_id)
        if row is not None and row.busy < row.places:
            self._room.pump(*row.names)

    async def run(self, every_s: float) -> None:
        """Looks at every worker each `every_s` seconds, until it is cancelled."""
        while True:
            await asyncio.sleep(every_s)
            try:
                if self._monitor.check():
                    self._room.pump_all()
            except Exception as error:
                # A bug in one look must not end the watch over every worker.
                self._log.error("check_broke", exc_info=error)
