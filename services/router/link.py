"""The link to one worker: one stream for all of its requests, one writer task, one reader. It places nothing."""

import asyncio
from collections.abc import Callable
from functools import partial

import grpc.aio
import structlog

from services.kit.cancellation import heed_cancellation
from services.kit.errors import Unavailable
from services.router.convert import cache_change_from, hello_from, load_from, outcome_from
from services.router.core.recover import Failure, FailureKind
from services.router.core.worker import CacheChange, Hello, Load
from services.router.flow import Flow
from weft.worker.v1 import worker_pb2
from weft.worker.v1.worker_pb2_grpc import WorkerServiceStub

HELLO_TIMEOUT_S = 5.0
OUTBOX_BYTES = 256 * 1024 * 1024
"""Requests that wait to be written to one worker; beyond it the worker does not read."""

OnNews = Callable[[Load | CacheChange], None]
"""Takes what a worker says of itself."""


class Link:
    """One opened stream. Build it with `connect`, then `run` until it raises; `close` ends it from outside.

    At `queue_limit` messages that the worker does not take, the link counts as lost.
    """

    def __init__(
        self,
        call: "grpc.aio.StreamStreamCall[worker_pb2.AttachRequest, worker_pb2.AttachResponse]",
        hello: Hello,
        load: Load | None,
        queue_limit: int,
    ) -> None:
        self.hello = hello
        self.load = load
        """What came with hello: its worker may be broken from the start."""
        self._call = call
        self._outbox: asyncio.Queue[worker_pb2.AttachRequest] = asyncio.Queue(queue_limit)
        self._outbox_bytes = 0
        self._flows: dict[int, Flow] = {}
        self._next_number = 1
        self._log = structlog.get_logger("link").bind(worker=hello.worker_id)

    def __repr__(self) -> str:
        return f"Link({self.hello.worker_id} flows={len(self._flows)})"

    @classmethod
    async def connect(cls, channel: grpc.aio.Channel, router_id: str, queue_limit: int) -> "Link":
        """Opens the stream and waits for hello. Raises Unavailable, in words, when the worker does not answer."""
        call = WorkerServiceStub(channel).Attach(timeout=None)
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                await call.write(worker_pb2.AttachRequest(open=worker_pb2.Open(router_id=router_id)))
                first = await call.read()
            if not isinstance(first, worker_pb2.AttachResponse) or not first.HasField("hello"):
                raise Unavailable("the worker closed the link or did not begin it with hello", reason="NO_HELLO")
            load = load_from(first.load) if first.HasField("load") else None
            return cls(call, hello_from(first.hello), load, queue_limit)
        except BaseException as error:
            call.cancel()
            heed_cancellation(error)
            if isinstance(error, TimeoutError):
                raise Unavailable(f"the worker said nothing for {HELLO_TIMEOUT_S:g} s", reason="NO_HELLO") from error
            if isinstance(error, grpc.aio.AioRpcError):
                raise Unavailable(error.details() or error.code().name, reason="LINK_LOST") from error
            if isinstance(error, asyncio.InvalidStateError):
                # grpc raises this from write when the call ended before the write began.
                raise Unavailable("the worker refused the link", reason="LINK_LOST") from error
            raise

    async def run(self, on_news: OnNews) -> str:
        """Reads and writes until the stream ends; returns why. Every answer still on it then ends with LINK_LOST."""
        writer = asyncio.create_task(self._write(), name=f"link-writer-{self.hello.worker_id}")
        reason = "the worker closed the link"
        try:
            while (message := await self._call.read()) is not grpc.aio.EOF:
                assert isinstance(message, worker_pb2.AttachResponse)
                self._take(message, on_news)
        except grpc.aio.AioRpcError as error:
            heed_cancellation(error)
            reason = error.details() or error.code().name
        except asyncio.CancelledError:
            # `close` cancels the call, which the reader sees as its own cancellation; a cancelled task goes on up.
            if not self._call.cancelled() or (task := asyncio.current_task()) is None or task.cancelling():
                raise
            reason = "the router closed the link"
        finally:
            self._call.cancel()
            writer.cancel()
            # Waiting, and not awaiting: the writer's own end must not hide that this task is cancelled.
            await asyncio.wait([writer])
            _retrieved(writer)
            self._lose(reason)
        return reason

    def start(self, flow: Flow, message: worker_pb2.Start) -> int:
        """Sends a request whose tokens go to `flow`; returns its number on this link."""
        number = self._next_number
        self._next_number += 1
        message.request = number
        self._flows[number] = flow
        flow.carried_by(partial(self.leave, number))
        self._send(worker_pb2.AttachRequest(start=message))
        return number

    def leave(self, number: int) -> None:
        """The answer is no longer wanted here; the engine is told to stop where it is still at it."""
        if self._flows.pop(number, None) is not None:
            self._send(worker_pb2.AttachRequest(cancel=worker_pb2.Cancel(request=number)))

    @property
    def under_way(self) -> int:
        """See ports.LinkView."""
        return len(self._flows)

    def abandon(self, failure: Failure) -> None:
        """See ports.LinkView."""
        for flow in list(self._flows.values()):
            flow.abandon(failure)

    def close(self) -> None:
        """Ends the stream; `run` returns."""
        self._call.cancel()

    def _send(self, message: worker_pb2.AttachRequest) -> None:
        self._outbox_bytes += message.ByteSize()
        try:
            if self._outbox_bytes > OUTBOX_BYTES and self._outbox.qsize():
                raise asyncio.QueueFull
            self._outbox.put_nowait(message)
        except asyncio.QueueFull:
            self._log.warning("link_cut", reason="the worker does not read", queued=self._outbox.qsize())
            self._call.cancel()

    async def _write(self) -> None:
        while True:
            message = await self._outbox.get()
            self._outbox_bytes -= message.ByteSize()
            await self._call.write(message)

    def _take(self, message: worker_pb2.AttachResponse, on_news: OnNews) -> None:
        flows = self._flows
        for started in message.started:
            if (flow := flows.get(started.request)) is not None:
                flow.started(started.prompt_tokens, started.cached_tokens)
        for delta in message.deltas:
            if (flow := flows.get(delta.request)) is not None:
                flow.tokens(delta)
        for ended in message.ended:
            # Gone from here before its client is told, so that `leave` sends no cancel for it.
            if (flow := flows.pop(ended.request, None)) is not None:
                flow.end(outcome_from(ended))
        for event in message.kv_events:
            on_news(cache_change_from(event))
        if message.HasField("load"):
            on_news(load_from(message.load))

    def _lose(self, reason: str) -> None:
        flows, self._flows = self._flows, {}
        for flow in flows.values():
            flow.end(Failure(FailureKind.LINK_LOST, f"{self.hello.worker_id} was lost", "WORKER_LOST"))


def _retrieved(task: "asyncio.Task[None]") -> None:
    """Looks at how a task ended, so that asyncio does not report what the link's own end says already."""
    if not task.cancelled():
        task.exception()
