"""The worker's two calls: the link that carries a router's requests, and the same work for one request alone."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from functools import partial
from typing import Any

import grpc.aio
import structlog

from services.kit.errors import InvalidArgument, WeftError, duration_to_seconds, error_for
from services.worker import convert
from services.worker.desk import Desk, Start
from services.worker.link import Link
from weft.worker.v1 import worker_pb2 as pb
from weft.worker.v1 import worker_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class WorkerServicer(worker_pb2_grpc.WorkerServiceServicer):
    """See the contract for the order of messages and the errors."""

    def __init__(self, desk: Desk, hello: pb.Hello) -> None:
        self._desk = desk
        self._hello = hello
        self._log = structlog.get_logger("servicer")

    # The stubs know handlers that yield; one that writes to its context spares each message a frame.
    async def Attach(  # type: ignore[override]
        self, request_iterator: AsyncIterator[pb.AttachRequest], context: Context
    ) -> None:
        """Reads and writes in tasks of their own, since neither may wait for the other; the first to end ends both."""
        first = await anext(request_iterator, None)
        if first is None or first.WhichOneof("kind") != "open":
            raise InvalidArgument("the first message has to hold `open`", reason="NOT_OPEN", field="open")
        # An error's status takes them along while the first message has not gone out, and they cannot go twice.
        await context.send_initial_metadata(())
        link = self._desk.open(f"router {first.open.router_id!r} at {context.peer()}", self._hello)
        self._log.info("attached", router=first.open.router_id, peer=context.peer())
        tasks = [
            asyncio.create_task(self._read(request_iterator, link)),
            asyncio.create_task(_write(link, context, lambda message: (message,))),
            asyncio.create_task(link.cut.wait()),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if link.cut.is_set():
                link.raise_end()
            for task in done:
                task.result()
        finally:
            self._desk.leave(link)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._log.info("detached", router=first.open.router_id, peer=context.peer())

    async def _read(self, requests: AsyncIterator[pb.AttachRequest], link: Link) -> None:
        async for message in requests:
            kind = message.WhichOneof("kind")
            if kind == "start":
                self._start(link, message.start)
            elif kind == "cancel":
                self._desk.cancel(link, message.cancel.request)
            elif kind == "drain":
                self._desk.drain()
            else:
                raise InvalidArgument("only the first message may hold `open`", reason="OPEN_AGAIN", field="open")

    def _start(self, link: Link, wire: pb.Start) -> None:
        if wire.request in link.requests:
            # Answering it would end the request that has the number, so the whole link is at fault.
            raise InvalidArgument(f"request {wire.request} is under way on this link", field="start.request")
        self._desk.start(link, wire.request, partial(_to_start, wire))

    async def Generate(  # type: ignore[override]  # as above
        self, request: pb.GenerateRequest, context: Context
    ) -> None:
        """One request on a link of its own, which ends with the call."""
        link = self._desk.open(f"call from {context.peer()}")
        try:
            self._start(
                link,
                pb.Start(
                    model=request.model,
                    prompt=request.prompt,
                    sampling=request.sampling,
                    resume_token_ids=request.resume_token_ids,
                    resume_text=request.resume_text,
                ),
            )
            await _write(link, context, _events, until_ended=True)
        finally:
            self._desk.leave(link)


def _to_start(wire: pb.Start) -> Start:
    return Start(
        request=wire.request,
        model=wire.model,
        prompt=convert.to_prompt(wire.prompt),
        sampling=convert.to_sampling(wire.sampling),
        resume=tuple(wire.resume_token_ids),
        resume_text=wire.resume_text,
        timeout_s=duration_to_seconds(wire.timeout) if wire.HasField("timeout") else None,
    )


async def _write(
    link: Link, context: Context, events: Callable[[pb.AttachResponse], Iterable[Any]], *, until_ended: bool = False
) -> None:
    """The only task that writes to this stream: a stream takes one write at a time."""
    while True:
        message = await link.take()
        for event in events(message):
            await context.write(event)
        if until_ended and message.ended:
            return


def _events(message: pb.AttachResponse) -> Iterator[pb.GenerateResponse]:
    """One request's events of a message, in order; raises at the end what the request failed with."""
    for started in message.started:
        yield pb.GenerateResponse(started=started)
    for delta in message.deltas:
        yield pb.GenerateResponse(delta=delta)
    for ended in message.ended:
        if ended.HasField("failure"):
            raise _failure(ended.failure)
        yield pb.GenerateResponse(ended=ended)


def _failure(failure: pb.Failure) -> WeftError:
    delay_s = duration_to_seconds(failure.retry_delay) if failure.HasField("retry_delay") else None
    return error_for(failure.code, failure.message, reason=failure.reason, field=failure.field, retry_delay_s=delay_s)
