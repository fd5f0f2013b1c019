"""A gRPC server with what every service owes its callers: health, reflection, limits, a clear word on a busy port."""

from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry

from services.kit.edge import CallMetrics, Edge, EdgeInterceptor
from services.kit.errors import WeftError
from services.kit.settings.shared import GrpcSettings
from services.kit.telemetry import trace_interceptors


class _MethodPool:
    """The default descriptor pool, which also finds the file of a method: ghz asks for that."""

    def __init__(self) -> None:
        self._pool: Any = descriptor_pool.Default()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> Any:
        """The symbol's file, or that of the service whose method it is. Raises KeyError."""
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            service, _, method = symbol.rpartition(".")
            found = self._pool.FindServiceByName(service)
            if method not in found.methods_by_name:
                raise
            return found.file


class AddressInUse(WeftError):
    """The address cannot be listened on."""

    reason_default = "ADDRESS_IN_USE"


def message_options(settings: GrpcSettings) -> list[tuple[str, int]]:
    """Channel arguments that both ends need: message limits and keepalive."""
    return [
        ("grpc.max_send_message_length", settings.max_message_bytes),
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.keepalive_time_ms", int(settings.keepalive_s * 1000)),
        ("grpc.keepalive_timeout_ms", int(settings.keepalive_timeout_s * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]


class GrpcServer:
    """One server on one port. Add servicers through `grpc`, then `start`; `stop` drains.

    `services` are the full names that health and reflection list; reflection lists `described` too.
    """

    def __init__(
        self,
        address: str,
        services: list[str],
        settings: GrpcSettings,
        registry: CollectorRegistry,
        *,
        described: Sequence[str] = (),
    ) -> None:
        self.address = address
        self._services = services
        self._described = described
        self.edge = Edge(CallMetrics(registry))
        """Shared with any other server of the process, so that calls are counted in one place."""
        self._interceptor = EdgeInterceptor(self.edge)
        self.grpc = grpc.aio.server(
            interceptors=[*trace_interceptors(), self._interceptor],
            options=[
                *message_options(settings),
                # A busy port has to fail rather than share its traffic with whoever has it.
                ("grpc.so_reuseport", 0),
                # Clients ping at their own keepalive; a stricter server would end idle links with too_many_pings.
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 1_000),
                ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
            ],
            maximum_concurrent_rpcs=settings.max_concurrent_calls,
        )
        self._health = HealthServicer()

    def __repr__(self) -> str:
        return f"GrpcServer({self.address} {self._services})"

    async def start(self) -> int:
        """Listens and returns the port; raises AddressInUse. Health says SERVING only after `serving(True)`."""
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.grpc)
        names = [
            *self._services,
            *self._described,
            health_pb2.DESCRIPTOR.services_by_name["Health"].full_name,
            reflection.SERVICE_NAME,
        ]
        pool: Any = _MethodPool()
        reflection.enable_server_reflection(names, self.grpc, pool)
        try:
            port = self.grpc.add_insecure_port(self.address)
        except RuntimeError as error:
            raise AddressInUse(
                f"cannot listen on {self.address}: another program has it, or the host is not this machine's; "
                "stop that program or choose another port"
            ) from error
        await self.serving(False)
        await self.grpc.start()
        return port

    async def serving(self, ready: bool) -> None:
        """What health answers from now on, for the server as a whole and for each service."""
        status = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", *self._services):
            await self._health.set(name, status)

    async def stop(self, grace_s: float) -> None:
        """Refuses new calls, lets those under way finish for `grace_s` seconds, then cancels them."""
        await self.serving(False)
        self._interceptor.stop()
        await self.grpc.stop(grace_s)
