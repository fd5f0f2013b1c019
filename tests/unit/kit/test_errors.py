"""Errors on the wire and back, and the edge that turns them into statuses."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.any_pb2 import Any as Any_
from google.rpc import status_pb2
from grpc.aio import Metadata
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from prometheus_client import CollectorRegistry

from services.kit.admin import AdminServer
from services.kit.channels import dial
from services.kit.errors import Exhausted, InvalidArgument, NotFound, Unavailable, WeftError, from_rpc
from services.kit.server import AddressInUse, GrpcServer
from services.kit.settings.shared import GrpcSettings
from weft.embedder.v1 import embedder_pb2, embedder_pb2_grpc

NAME = embedder_pb2.DESCRIPTOR.services_by_name["EmbedderService"].full_name


class Failing(embedder_pb2_grpc.EmbedderServiceServicer):
    """Raises what it is given."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def Embed(self, request: Any, context: Any) -> Any:
        raise self.error

    async def StreamEmbed(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:
        yield embedder_pb2.StreamEmbedResponse(index=1)
        raise self.error


@asynccontextmanager
async def serving(error: Exception, registry: CollectorRegistry) -> AsyncIterator[Any]:
    server = GrpcServer("127.0.0.1:0", [NAME], GrpcSettings(), registry)
    embedder_pb2_grpc.add_EmbedderServiceServicer_to_server(Failing(error), server.grpc)
    port = await server.start()
    try:
        async with dial(f"127.0.0.1:{port}", GrpcSettings()) as channel:
            yield embedder_pb2_grpc.EmbedderServiceStub(channel)
    finally:
        await server.stop(0)


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(InvalidArgument("wrong", reason="TOO_LONG", field="texts[3]"), id="invalid argument"),
        pytest.param(NotFound("no such model"), id="not found"),
        pytest.param(Exhausted("full", retry_delay_s=2.5), id="full"),
        pytest.param(Unavailable("away", retry_delay_s=0.5), id="away"),
    ],
)
async def test_error_crosses_the_wire_whole(error: WeftError) -> None:
    async with serving(error, CollectorRegistry()) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Embed(embedder_pb2.EmbedRequest())
    found = from_rpc(caught.value)
    assert type(found) is type(error)
    assert (found.message, found.reason, found.field) == (error.message, error.reason, error.field)
    assert found.retry_delay_s == error.retry_delay_s
    trailers = dict(caught.value.trailing_metadata())
    assert ("retry-after" in trailers) == (error.retry_delay_s is not None)


GARBAGE = Any_(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff")
HALF = status_pb2.Status(code=grpc.StatusCode.UNAVAILABLE.value[0], message="away", details=[GARBAGE])


@pytest.mark.parametrize(
    "sent", [pytest.param(b"\xff", id="status"), pytest.param(HALF.SerializeToString(), id="detail")]
)
def test_details_that_cannot_be_read_leave_the_status(sent: bytes) -> None:
    trailing = Metadata(("grpc-status-details-bin", sent))
    found = from_rpc(grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, Metadata(), trailing, "away"))
    assert (type(found), found.message, found.reason) == (Unavailable, "away", "UNAVAILABLE")


async def test_unexpected_error_tells_the_caller_nothing_of_our_inside() -> None:
    registry = CollectorRegistry()
    async with serving(ValueError("secret path"), registry) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Embed(embedder_pb2.EmbedRequest())
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in (caught.value.details() or "")
    labels = {"method": f"/{NAME}/Embed", "code": "INTERNAL"}
    assert registry.get_sample_value("weft_rpc_calls_total", labels) == 1


async def test_stream_that_fails_keeps_what_it_sent() -> None:
    async with serving(NotFound("gone"), CollectorRegistry()) as stub:
        call = stub.StreamEmbed(iter([]))
        assert (await call.read()).index == 1
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_busy_port_is_told_in_words() -> None:
    first = GrpcServer("127.0.0.1:0", [], GrpcSettings(), CollectorRegistry())
    port = await first.start()
    second = GrpcServer(f"127.0.0.1:{port}", [], GrpcSettings(), CollectorRegistry())
    try:
        with pytest.raises(AddressInUse, match=str(port)):
            await second.start()
        with pytest.raises(AddressInUse, match=str(port)):
            AdminServer("127.0.0.1", port, CollectorRegistry(), lambda: "")
    finally:
        await first.stop(0)
        await second.stop(0)


async def test_stop_does_not_wait_for_those_who_watch() -> None:
    server = GrpcServer("127.0.0.1:0", [NAME], GrpcSettings(), CollectorRegistry())
    port = await server.start()
    async with dial(f"127.0.0.1:{port}", GrpcSettings()) as channel:
        watch = HealthStub(channel).Watch(HealthCheckRequest())
        assert (await watch.read()).status == HealthCheckResponse.NOT_SERVING
        async with asyncio.timeout(5):
            await server.stop(60.0)
        assert await watch.code() is grpc.StatusCode.UNAVAILABLE
