"""Asks whether something is ready: a service by gRPC health, Envoy by HTTP."""

import asyncio
import contextlib

import grpc.aio
from grpc_health.v1 import health_pb2

_CHECK = "/grpc.health.v1.Health/Check"
_TIMEOUT_S = 2.0
_HEAD_LIMIT_BYTES = 4096


async def is_serving(channel: grpc.aio.Channel, service: str = "") -> bool:
    """Whether the server's gRPC health says SERVING for the service; empty asks for the server as a whole."""
    check = channel.unary_unary(
        _CHECK,
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    try:
        answer = await check(health_pb2.HealthCheckRequest(service=service), timeout=_TIMEOUT_S)
    except grpc.aio.AioRpcError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def answers_ok(address: str, path: str) -> bool:
    """Whether GET `path` at host:port answers with status 200."""
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(host.strip("[]"), int(port), limit=_HEAD_LIMIT_BYTES)
            with contextlib.closing(writer):
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
                status = await reader.readline()
    except (OSError, TimeoutError, ValueError):
        return False
    return b" 200 " in status
