"""Runs a whole worker on this loop, found the way a router finds it, and reads links the way a router reads them."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc.aio

from services.kit.settings import Settings
from services.kit.settings.engines.sim import SimSettings
from services.kit.settings.worker import WorkerSettings
from services.worker.__main__ import OpenEngine, open_engine, serve
from tests.fakes.router import FakeRouter, serve_router
from weft.chat.v1 import chat_pb2
from weft.worker.v1 import worker_pb2 as pb
from weft.worker.v1 import worker_pb2_grpc

FAST = SimSettings(ttft_ms=4.0, itl_ms=1.0, max_tokens=20)
ENDLESS = 1_000_000


@dataclass
class RunningWorker:
    """`stop` tells it to stop; `task` ends when it has."""

    address: str
    stop: asyncio.Event
    task: asyncio.Task[None]


def free_port() -> int:
    """A port that was free just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def running_worker(open_with: OpenEngine = open_engine, **settings: object) -> AsyncIterator[RunningWorker]:
    """A worker with the sim engine unless the settings say otherwise; it is stopped at the end."""
    router, stop = FakeRouter(), asyncio.Event()
    async with serve_router(router) as port:
        values = {"engine": "sim", "sim": FAST, "port": 0, "admin_port": 0, "context_tokens": ENDLESS, **settings}
        mine = WorkerSettings(routers=[f"127.0.0.1:{port}"], **values)  # type: ignore[arg-type]
        task = asyncio.create_task(serve(Settings(worker=mine), stop, open_with))
        heard = asyncio.create_task(router.heard())
        await asyncio.wait([task, heard], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            heard.cancel()
            task.result()
        try:
            yield RunningWorker((await heard)[1], stop, task)
        finally:
            stop.set()
            await task


@dataclass
class Answer:
    """What a link brought for one request."""

    started: bool = False
    cached_tokens: int = 0
    ids: list[int] = field(default_factory=list)
    text: str = ""
    ended: pb.Ended | None = None


class LinkClient:
    """One link, its messages checked against the contract's order as they come."""

    def __init__(self, call: "grpc.aio.StreamStreamCall[pb.AttachRequest, pb.AttachResponse]") -> None:
        self.call = call
        self.answers: dict[int, Answer] = {}
        self.resumed: dict[int, int] = {}
        self.messages: list[pb.AttachResponse] = []
        self.load = pb.Load()

    async def start(
        self,
        request: int,
        text: str = "hello",
        resume: tuple[int, ...] = (),
        timeout_s: float = 0.0,
        **sampling: object,
    ) -> None:
        """Starts a request on a prompt of plain text."""
        self.resumed[request] = len(resume)
        start = pb.Start(
            request=request,
            prompt=pb.Prompt(text=text),
            sampling=chat_pb2.Sampling(**sampling),  # type: ignore[arg-type]
            resume_token_ids=resume,
        )
        if timeout_s:
            start.timeout.FromNanoseconds(int(timeout_s * 1e9))
        await self.send(start=start)

    async def send(self, **kind: object) -> None:
        """One message to the worker."""
        await self.call.write(pb.AttachRequest(**kind))  # type: ignore[arg-type]

    async def read(self) -> pb.AttachResponse | None:
        """The next message, taken in; None at the stream's end."""
        message = await self.call.read()
        if message is grpc.aio.EOF:
            return None
        assert message.HasField("hello") == (not self.messages), "hello comes first and only then"
        self.messages.append(message)
        if message.HasField("load"):
            self.load = message.load
        for started in message.started:
            answer = self.answers.setdefault(started.request, Answer())
            assert not answer.started
            answer.started, answer.cached_tokens = True, started.cached_tokens
        assert len({delta.request for delta in message.deltas}) == len(message.deltas)
        for delta in message.deltas:
            answer = self.answers[delta.request]
            assert answer.started
            assert answer.ended is None
            assert delta.index == self.resumed[delta.request] + len(answer.ids)
            answer.ids += delta.token_ids
            answer.text += delta.text
        for ended in message.ended:
            answer = self.answers.setdefault(ended.request, Answer())
            assert answer.ended is None
            answer.ended = ended
        return message

    async def until(self, done: Callable[["LinkClient"], bool]) -> None:
        """Reads until it is so."""
        while not done(self):
            assert await self.read() is not None, f"the stream ended: {self.call}"

    async def ended(self, request: int) -> pb.Ended:
        """Reads until the request is over."""
        await self.until(lambda link: request in link.answers and link.answers[request].ended is not None)
        ended = self.answers[request].ended
        assert ended is not None
        return ended

    async def tokens(self, request: int, count: int = 1) -> list[int]:
        """Reads until the request has so many tokens."""
        await self.until(lambda link: request in link.answers and len(link.answers[request].ids) >= count)
        return self.answers[request].ids

    async def end(self) -> grpc.StatusCode:
        """Reads to the stream's end; its status."""
        try:
            while await self.read() is not None:
                pass
        except grpc.aio.AioRpcError as error:
            return error.code()
        return await self.call.code()


@asynccontextmanager
async def attached(address: str, router_id: str = "router-1") -> AsyncIterator[LinkClient]:
    """A link that has said hello, over a connection of its own; it is cancelled at the end."""
    async with grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        call = worker_pb2_grpc.WorkerServiceStub(channel).Attach()
        link = LinkClient(call)  # type: ignore[arg-type]  # the stubs show the blocking call
        await link.send(open=pb.Open(router_id=router_id))
        await link.read()
        try:
            yield link
        finally:
            call.cancel()
