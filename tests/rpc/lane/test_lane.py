"""The lane on real sockets, with grpc's own client: answers, errors, deadlines, cancels, slow clients, drain."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from prometheus_client import CollectorRegistry

from services.kit.channels import dial
from services.kit.edge import CallMetrics, Edge
from services.kit.errors import Exhausted
from services.kit.lane.frames import PREFACE, Code, Kind, frame, reset, settings, split, word
from services.kit.lane.server import LaneServer
from services.kit.server import AddressInUse
from services.kit.settings.shared import GrpcSettings
from tests.unit.kit.lane.peer import HEADERS as HEAD
from tests.unit.kit.lane.peer import Peer
from weft.router.v1 import router_pb2, router_pb2_grpc
from weft.router.v1.router_pb2_grpc import RouterServiceStub

SERVICE = "/weft.router.v1.RouterService/"
PATHS = [SERVICE + name for name in ("StreamChat", "ListModels", "WatchWorkers", "Converse")]


def tokens(text: str) -> router_pb2.StreamChatResponse:
    return router_pb2.StreamChatResponse(tokens=router_pb2.Tokens(text=text))


class Service(router_pb2_grpc.RouterServiceServicer):
    """Does what the request's model names; `ended` says how each call's handler ended."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go = asyncio.Event()
        self.ended: asyncio.Queue[str] = asyncio.Queue()
        self.pushed = self.written = 0
        self.no_room = asyncio.Event()
        self.wrote = asyncio.Event()
        self.left_s: float | None = None

    async def StreamChat(self, request: router_pb2.StreamChatRequest, context: Any) -> None:
        how = "done"
        try:
            self.begun.set()
            self.left_s = context.time_remaining()
            await getattr(self, request.model)(request, context)
        except BaseException as error:
            how = type(error).__name__
            raise
        finally:
            self.ended.put_nowait(how)

    async def tale(self, request: router_pb2.StreamChatRequest, context: Any) -> None:
        for text in ("once", " upon", " a", " time"):
            await context.write(tokens(text))

    async def nothing(self, request: router_pb2.StreamChatRequest, context: Any) -> None:
        """Ends without a message."""

    async def full(self, request: router_pb2.StreamChatRequest, context: Any) -> None:
        raise Exhausted("füll: 100 %\nof it", reason="QUEUE_FULL", retry_delay_s=2.5)

    async def full_later(self, request: router_pb2.StreamChatRequest, context: Any) -> None:
        await context.write(tokens("once"))
        raise Exhausted("full", reason="QUEUE_FULL", retry_delay_s=2.5)

    async def bug(self, request: router_pb2.StreamChatRequest, context: Any) -> None:
        raise KeyError("secret")

    async def hang(self, request: router_pb2.StreamChatRequest, context: Any) -> None:
        await context.write(tokens("once"))
        await self.go.wait()
        await context.write(tokens(" upon"))

    async def flood(self, request: router_pb2.StreamChatRequest, context: Any) -> None:
        """Pushes until there is no room, and then writes for ever."""
        await context.write(tokens("x"))
        while context.push(tokens("x" * 1000).SerializeToString()):
            self.pushed += 1
            await asyncio.sleep(0)
        self.no_room.set()
        while True:
            await context.write(tokens("y" * 1000))
            self.written += 1
            self.wrote.set()

    async def count(self, request: router_pb2.StreamChatRequest, context: Any) -> None:
        await context.write(tokens(str(sum(len(m.content) for m in request.messages))))

    async def large(self, request: router_pb2.StreamChatRequest, context: Any) -> None:
        await context.write(tokens("x" * 3_000_000))

    async def ListModels(self, request: router_pb2.ListModelsRequest, context: Any) -> Any:
        return router_pb2.ListModelsResponse(models=[router_pb2.Model(name="tale")])

    async def WatchWorkers(self, request: router_pb2.WatchWorkersRequest, context: Any) -> AsyncIterator[Any]:
        for _ in range(2):
            yield router_pb2.WatchWorkersResponse()


class Lane:
    """A running lane, its service, and a stub of grpc's client."""

    def __init__(self, server: LaneServer, service: Service, port: int, channel: Any, registry: Any) -> None:
        self.server, self.service, self.port, self.channel, self.registry = server, service, port, channel, registry
        self.stub = RouterServiceStub(channel)

    def chat(self, model: str, timeout: float | None = 10.0, **fields: Any) -> Any:
        return self.stub.StreamChat(router_pb2.StreamChatRequest(model=model, **fields), timeout=timeout)

    async def ended(self) -> str:
        async with asyncio.timeout(5):
            return await self.service.ended.get()


Open = Callable[..., AbstractAsyncContextManager[Lane]]


@pytest.fixture
def lane() -> Open:
    """Starts one: `async with lane() as found`; keywords are settings."""

    @asynccontextmanager
    async def run(**changes: Any) -> AsyncIterator[Lane]:
        settings_, registry, service = GrpcSettings(**changes), CollectorRegistry(), Service()
        server = LaneServer("127.0.0.1", 0, PATHS, settings_, Edge(CallMetrics(registry)))
        router_pb2_grpc.add_RouterServiceServicer_to_server(service, server.grpc)
        port = await server.start()
        try:
            async with dial(f"127.0.0.1:{port}", GrpcSettings(), own_connection=True) as channel:
                yield Lane(server, service, port, channel, registry)
        finally:
            await server.stop(0.0)

    return run


async def text_of(call: Any) -> str:
    """What is left of the call's text."""
    text = ""
    while (message := await call.read()) is not grpc.aio.EOF:
        text += message.tokens.text
    # An error shows only here.
    if (code := await call.code()) is not grpc.StatusCode.OK:
        raise grpc.aio.AioRpcError(
            code, await call.initial_metadata(), await call.trailing_metadata(), await call.details()
        )
    return text


async def test_streams_and_single_answers(lane: Open) -> None:
    async with lane() as found:
        assert await text_of(found.chat("tale")) == "once upon a time"
        assert await text_of(found.chat("nothing")) == ""
        assert (await found.stub.ListModels(router_pb2.ListModelsRequest())).models[0].name == "tale"
        assert len([m async for m in found.stub.WatchWorkers(router_pb2.WatchWorkersRequest())]) == 2
        assert found.server.calls == 0
    assert (
        found.registry.get_sample_value("weft_rpc_calls_total", {"method": SERVICE + "StreamChat", "code": "OK"}) == 2
    )


@pytest.mark.parametrize("model", ["full", "full_later"])
async def test_errors_come_with_their_details(lane: Open, model: str) -> None:
    async with lane() as found:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await text_of(found.chat(model))
    error = caught.value
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error.details() == ("füll: 100 %\nof it" if model == "full" else "full")
    assert dict(error.trailing_metadata())["retry-after"] == "3"
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    info = error_details_pb2.ErrorInfo()
    assert status is not None
    assert status.details[0].Unpack(info)
    assert info.reason == "QUEUE_FULL"


async def test_bugs_tell_nothing(lane: Open) -> None:
    async with lane() as found:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await text_of(found.chat("bug"))
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in str(caught.value)


async def test_what_is_not_served_is_unimplemented(lane: Open) -> None:
    async with lane() as found:
        for call in (
            found.stub.ListWorkers(router_pb2.ListWorkersRequest()),
            found.stub.Converse(),
        ):
            assert await call.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_compressed_requests_are_unimplemented(lane: Open) -> None:
    async with lane() as found:
        request = router_pb2.ListModelsRequest()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await found.stub.StreamChat(
                router_pb2.StreamChatRequest(model="x" * 5000), compression=grpc.Compression.Gzip
            ).read()
        assert (await found.stub.ListModels(request)).models
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_unreadable_request_is_the_callers_fault(lane: Open) -> None:
    async with lane() as found:
        call = found.channel.unary_unary(SERVICE + "ListModels")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"\xff\xff\xff")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_deadline_reaches_the_handler_and_ends_it(lane: Open) -> None:
    async with lane() as found:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await text_of(found.chat("hang", timeout=0.3))
        assert await found.ended() == "CancelledError"
        assert found.service.left_s is not None
        assert 0.0 < found.service.left_s <= 0.31
        await text_of(found.chat("tale", timeout=None))
        assert found.service.left_s is None
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_cancel_reaches_the_handler_at_once(lane: Open) -> None:
    async with lane() as found:
        call = found.chat("hang")
        await call.read()
        cancelled_s = time.monotonic()
        call.cancel()
        assert await found.ended() == "CancelledError"
        assert time.monotonic() - cancelled_s < 0.1
        assert await text_of(found.chat("tale")), "the connection goes on"


async def test_lost_connection_ends_its_calls_at_once(lane: Open) -> None:
    async with lane() as found:
        peer, (reader, writer) = Peer(), await asyncio.open_connection("127.0.0.1", found.port)
        body = router_pb2.StreamChatRequest(model="hang").SerializeToString()
        head = [(n, SERVICE + "StreamChat" if n == ":path" else v) for n, v in HEAD]
        data = b"\0" + len(body).to_bytes(4, "big") + body
        writer.write(PREFACE + settings({}) + peer.head(1, head) + frame(Kind.DATA, 1, 1, data))
        await found.service.begun.wait()
        lost_s = time.monotonic()
        writer.transport.abort()
        assert await found.ended() == "CancelledError"
        assert time.monotonic() - lost_s < 0.1
        assert not await reader.read(0)


async def test_slow_client_holds_its_own_answer_alone(lane: Open) -> None:
    async with lane() as found:
        service, slow = found.service, found.chat("flood", timeout=None)
        await slow.read()
        async with asyncio.timeout(10):
            await service.no_room.wait()
            for _ in range(20):
                assert await text_of(found.chat("tale")) == "once upon a time"
            held = service.written
            assert held < 100, "what waits is bounded"
            service.wrote.clear()
            for _ in range(service.pushed + held):
                await slow.read()
            await service.wrote.wait()
        slow.cancel()


async def test_large_messages_both_ways_and_one_too_large(lane: Open) -> None:
    async with lane(max_message_bytes=2_500_000) as found:
        messages = [{"content": "x" * 2_000_000}]
        assert await text_of(found.chat("count", messages=messages)) == "2000000"
        assert len(await text_of(found.chat("large"))) == 3_000_000
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await text_of(found.chat("count", messages=[{"content": "x" * 2_600_000}]))
        assert await text_of(found.chat("tale"))
        assert found.server.request_bytes == 0
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_thousand_streams_on_one_connection(lane: Open) -> None:
    async with lane() as found:
        await found.channel.channel_ready()
        calls = [found.chat("hang", timeout=30.0) for _ in range(1000)]
        assert {(await call.read()).tokens.text for call in calls} == {"once"}
        assert found.server.calls == 1000
        found.service.go.set()
        assert {await text_of(call) for call in calls} == {" upon"}
        assert found.server.calls == 0


async def test_one_call_too_many_is_refused(lane: Open) -> None:
    async with lane(max_concurrent_calls=2) as found, dial(f"127.0.0.1:{found.port}", GrpcSettings()) as other:
        calls = [found.chat("hang") for _ in range(2)]
        for call in calls:
            await call.read()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await text_of(RouterServiceStub(other).StreamChat(router_pb2.StreamChatRequest(model="tale")))
        for call in calls:
            call.cancel()
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_stop_lets_calls_finish(lane: Open) -> None:
    async with lane() as found:
        call = found.chat("hang")
        await call.read()
        stopping = asyncio.create_task(found.server.stop(5.0))
        await asyncio.sleep(0)
        found.service.go.set()
        assert await text_of(call) == " upon"
        await stopping
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await text_of(found.chat("tale", timeout=0.5))
    assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


async def test_stop_ends_what_does_not_finish(lane: Open) -> None:
    async with lane() as found:
        call = found.chat("hang")
        await call.read()
        await found.server.stop(0.05)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await text_of(call)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_silent_client_is_asked_and_then_dropped(lane: Open) -> None:
    async with lane(keepalive_s=1.0, keepalive_timeout_s=0.1) as found:
        reader, writer = await asyncio.open_connection("127.0.0.1", found.port)
        writer.write(PREFACE + settings({}))
        async with asyncio.timeout(5):
            data = bytearray()
            with contextlib.suppress(ConnectionResetError):
                while part := await reader.read(100):
                    data += part
        writer.close()
        assert [f.kind for f in split(data)][-1] == Kind.PING
        assert await text_of(found.chat("tale"))


async def test_wrong_protocol_is_told_and_closed(lane: Open) -> None:
    async with lane() as found:
        reader, writer = await asyncio.open_connection("127.0.0.1", found.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(5):
            last = split(bytearray(await reader.read()))[-1]
        writer.close()
        assert (last.kind, word(last.payload[4:])) == (Kind.GOAWAY, Code.PROTOCOL_ERROR)


async def test_flood_of_resets_ends_the_connection_and_nothing_else(lane: Open) -> None:
    async with lane() as found:
        peer, (reader, writer) = Peer(), await asyncio.open_connection("127.0.0.1", found.port)
        writer.write(PREFACE + settings({}))
        for number in range(1, 10_000, 2):
            writer.write(peer.head(number) + reset(number, Code.CANCEL))
        async with asyncio.timeout(20):
            # It is closed while this end still sends, so GOAWAY need not come through.
            with contextlib.suppress(ConnectionResetError):
                while await reader.read(10_000):
                    continue
        writer.close()
        assert await text_of(found.chat("tale"))


async def test_busy_port_is_told(lane: Open) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = LaneServer("127.0.0.1", port, PATHS, GrpcSettings(), Edge(CallMetrics(CollectorRegistry())))
        with pytest.raises(AddressInUse):
            await server.start()
        await server.stop(0.0)


async def test_calls_that_are_reset_with_their_request_leave_nothing(lane: Open) -> None:
    async with lane() as found:
        peer = Peer()
        burst = PREFACE + settings({})
        for number in range(1, 201, 2):
            burst += peer.request(number) + reset(number, Code.CANCEL)
        reader, writer = await asyncio.open_connection("127.0.0.1", found.port)
        writer.write(burst)
        await reader.read(1)
        writer.close()
        async with asyncio.timeout(5):
            while found.server.calls or found.server.tasks:
                await asyncio.sleep(0)
        assert not found.server.full()
