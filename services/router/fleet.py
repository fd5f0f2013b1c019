"""Keeps one link to each known worker: dials it, redials it with backoff, and tells the table how it is."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import grpc.aio
import structlog
from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from services.kit.channels import dial
from services.kit.clock import Now
from services.kit.errors import Exhausted, InvalidArgument, Unavailable
from services.kit.settings.router import RouterSettings
from services.kit.settings.shared import GrpcSettings
from services.router.core.table import IdTaken, TableFull, WorkerTable
from services.router.core.worker import CacheChange, Load, Worker
from services.router.link import Link
from services.router.ports import LinkObserver

REDIAL_FIRST_S = 0.1
REDIAL_LONGEST_S = 2.0
CLOSE_S = 5.0
"""Links that have not ended by then are left to the end of the process."""


class Fleet:
    """Owns the tasks and channels of all links; `close` ends them."""

    def __init__(
        self, table: WorkerTable, settings: RouterSettings, grpc: GrpcSettings, observer: LinkObserver, now: Now
    ) -> None:
        self._table = table
        self._settings = settings
        self._grpc = grpc
        self._observer = observer
        self._now = now
        self._links: dict[str, Link] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._announced: dict[str, asyncio.Event] = {}
        """For each address that is being dialled: set when its worker says that it is there."""
        self._log = structlog.get_logger("fleet")

    def __repr__(self) -> str:
        return f"Fleet(links={sorted(self._links)})"

    def link(self, worker_id: str) -> Link | None:
        """The worker's link while it is up."""
        return self._links.get(worker_id)

    def announce(self, worker_id: str, address: str) -> None:
        """A worker can be reached at host:port; it is dialled unless it is already. Raises when it cannot be taken."""
        row = self._table.announce(worker_id, address, self._now())
        if isinstance(row, TableFull):
            raise Exhausted(
                f"the router knows {row.limit} workers and takes no more; raise router.max_workers",
                reason="TOO_MANY_WORKERS",
                retry_delay_s=self._settings.register_every_s,
            )
        if isinstance(row, IdTaken):
            raise InvalidArgument(
                f"another worker called {worker_id} serves at {row.address}; give this one another worker_id",
                reason="WORKER_ID_TAKEN",
                field="worker_id",
            )
        if (announced := self._announced.get(address)) is not None:
            announced.set()
        task = self._tasks.get(address)
        if task is None or task.done():
            task = asyncio.create_task(self._keep(row.worker_id, address), name=f"link-{address}")
            task.add_done_callback(self._ended)
            self._tasks[address] = task

    def listed(self, address: str) -> None:
        """The settings name a worker; until it has said who it is, its address stands for its id."""
        row = next((row for row in self._table if row.address == address), None)
        self.announce(row.worker_id if row else address.replace(":", "_"), address)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        """A link's task never ends by itself: what ended it is a bug of ours, and its worker's next word dials anew."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("link_task_broke", task=task.get_name(), exc_info=error)

    def forget(self) -> None:
        """Stops dialling workers that are away for too long and no longer announce themselves."""
        gone = self._table.forget(self._now() - self._settings.forget_after_s)
        known = {row.address for row in self._table} | set(self._settings.workers)
        for address in [address for address in self._tasks if address not in known]:
            self._tasks.pop(address).cancel()
        if gone:
            self._log.info("workers_forgotten", workers=gone)

    async def close(self) -> None:
        """Ends every link and waits for its task."""
        tasks, self._tasks = list(self._tasks.values()), {}
        for task in tasks:
            task.cancel()
        if tasks:
            _, left = await asyncio.wait(tasks, timeout=CLOSE_S)
            if left:
                self._log.error("links_left", tasks=[task.get_name() for task in left])

    async def _keep(self, known_as: str, address: str) -> None:
        """Connects, runs the link until it is lost, and again, for as long as the worker is known."""
        while True:
            async with self._connected(known_as, address) as link:
                row = self._table.link_up(known_as, link.hello, self._now())
                if isinstance(row, IdTaken):
                    self._log.error("worker_id_taken", worker=link.hello.worker_id, by=row.address, address=address)
                    link.close()
                    await asyncio.sleep(self._settings.register_every_s)
                    continue
                known_as = row.worker_id
                await self._run(link, row, address)

    async def _run(self, link: Link, row: Worker, address: str) -> None:
        worker_id = row.worker_id

        def on_news(news: Load | CacheChange) -> None:
            if isinstance(news, Load):
                self._table.report(worker_id, news)
                self._observer.report(worker_id, news)
            else:
                self._table.cache_changed(worker_id, news)

        if link.load is not None:
            self._table.report(worker_id, link.load)
        self._links[worker_id] = link
        self._observer.link_up(row, link)
        self._log.info("worker_up", worker=worker_id, address=address, model=link.hello.model)
        reason = "the router stops"
        try:
            reason = await link.run(on_news)
        finally:
            if self._links.get(worker_id) is link:
                del self._links[worker_id]
                self._table.link_down(worker_id, reason, self._now())
                self._observer.link_down(worker_id)
            self._log.warning("worker_down", worker=worker_id, address=address, reason=reason)

    @asynccontextmanager
    async def _connected(self, known_as: str, address: str) -> AsyncIterator[Link]:
        """A link on a channel of its own: one that failed has a backoff that nobody could cut short."""
        attempts = AsyncRetrying(
            retry=retry_if_exception_type(Unavailable),
            wait=wait_random_exponential(multiplier=REDIAL_FIRST_S, max=REDIAL_LONGEST_S),
            sleep=partial(self._pause, address),
        )
        async with AsyncExitStack() as opened:
            async for attempt in attempts:
                with attempt:
                    await opened.aclose()
                    channel = await opened.enter_async_context(dial(address, self._grpc, own_connection=True))
                    link = await self._connect(channel, known_as, address, attempt.retry_state.attempt_number)
            yield link

    async def _pause(self, address: str, delay_s: float) -> None:
        """Waits until the next try is due, or the worker announces itself: then it is there."""
        announced = self._announced[address] = asyncio.Event()
        try:
            async with asyncio.timeout(delay_s):
                await announced.wait()
        except TimeoutError:
            return
        finally:
            del self._announced[address]

    async def _connect(self, channel: grpc.aio.Channel, known_as: str, address: str, number: int) -> Link:
        """One try; the first failure of a row alone is logged."""
        try:
            return await Link.connect(channel, self._settings.router_id, self._settings.link_queue_limit)
        except Unavailable as error:
            if number == 1:
                self._log.info("dial_failed", worker=known_as, address=address, reason=error.message)
                # Its worker may have moved, and be linked by its other address.
                if known_as not in self._links:
                    self._table.link_down(known_as, error.message, self._now())
            raise
