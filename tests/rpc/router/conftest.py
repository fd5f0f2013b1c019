"""A real router, in this process but on real sockets, over workers that the tests script."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import grpc.aio
import httpx
import pytest

from services.kit.channels import dial
from services.kit.errors import seconds_to_duration
from services.kit.settings import Settings, load_settings
from services.router.__main__ import serve
from tests.fakes import worker as fake_worker
from tests.fakes.worker import FakeWorker
from weft.chat.v1 import chat_pb2
from weft.openai.v1.openai_pb2_grpc import OpenAIServiceStub
from weft.router.v1 import router_pb2
from weft.router.v1.router_pb2_grpc import RouterServiceStub


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


class Router:
    """A running router, a channel to it, and one for answers, which may be to its lane."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        answers: grpc.aio.Channel,
        port: int,
        admin_port: int,
        stop: asyncio.Event,
        stopped: "asyncio.Task[None]",
    ) -> None:
        self.stop = stop
        self.stopped = stopped
        self.stub = RouterServiceStub(channel)
        self.answers = RouterServiceStub(answers)
        self.openai = OpenAIServiceStub(answers)
        self.models = OpenAIServiceStub(channel)
        self.port = port
        self._admin_port = admin_port

    def chat(
        self, text: str = "tell me a tale", timeout: float = 20.0, within_s: float | None = None, **fields: Any
    ) -> Any:
        """Starts a StreamChat call; `timeout` is the call's deadline and `within_s` the request's own field."""
        if within_s is not None:
            fields["timeout"] = seconds_to_duration(within_s)
        messages = fields.pop("messages", [chat_pb2.Message(content=text)])
        return self.answers.StreamChat(router_pb2.StreamChatRequest(messages=messages, **fields), timeout=timeout)

    async def metrics(self) -> str:
        """What Prometheus would read."""
        async with httpx.AsyncClient() as client:
            return (await client.get(f"http://127.0.0.1:{self._admin_port}/metrics")).text

    async def serving(self, *worker_ids: str, state: Any = router_pb2.Worker.STATE_SERVING) -> list[router_pb2.Worker]:
        """Waits until just these workers are in this state; the whole table then."""
        async with asyncio.timeout(10):
            async for table in self.stub.WatchWorkers(router_pb2.WatchWorkersRequest()):
                if {w.worker_id for w in table.workers if w.state == state} == set(worker_ids):
                    return list(table.workers)
        raise AssertionError("the watch ended")

    async def in_flight(self, count: int) -> None:
        """Waits until this many answers are placed on all workers together."""
        async with asyncio.timeout(10):
            async for table in self.stub.WatchWorkers(router_pb2.WatchWorkersRequest()):
                if sum(w.in_flight for w in table.workers) == count:
                    return


BOTH_WAYS = pytest.mark.parametrize("start", ["grpc", "lane"], indirect=True)
"""For tests of answers: each is run over grpc.aio's port and over the lane's."""
Start = Callable[..., AbstractAsyncContextManager[Router]]


@pytest.fixture
def start(request: pytest.FixtureRequest) -> Start:
    """Starts a router over fake workers: `async with start(w1, w2, policy="round_robin") as router`.

    Parametrised with `lane` (`BOTH_WAYS`), answers come through the token lane.
    """
    by_lane = getattr(request, "param", "grpc") == "lane"

    @asynccontextmanager
    async def run(*workers: FakeWorker, **settings: Any) -> AsyncIterator[Router]:
        async with AsyncExitStack() as stack:
            for worker in workers:
                await stack.enter_async_context(fake_worker.listening(worker))
            port, lane_port, admin_port = free_port(), free_port(), free_port()
            tree: Settings = load_settings(
                router={
                    "retriever": "",
                    "port": port,
                    "lane_port": lane_port,
                    "admin_port": admin_port,
                    "drain_limit_s": 0.0,
                }
                | {"workers": [worker.address for worker in workers]}
                | settings
            )
            stop = asyncio.Event()
            serving = asyncio.create_task(serve(tree, stop))
            channel = await stack.enter_async_context(dial(f"127.0.0.1:{port}", tree.grpc))
            try:
                async with asyncio.timeout(10):
                    await channel.channel_ready()
                answers = channel
                if by_lane:
                    answers = await stack.enter_async_context(dial(f"127.0.0.1:{lane_port}", tree.grpc))
                    # It answers on this loop: a burst of calls before it is connected could outlast the attempt.
                    await answers.channel_ready()
                router = Router(channel, answers, port, admin_port, stop, serving)
                await router.serving(*(worker.worker_id for worker in workers))
                yield router
            finally:
                stop.set()
                await serving

    return run
