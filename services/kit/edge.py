"""The server interceptor at every service's edge: errors become statuses, and each call one log line and one count."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any, NoReturn

import grpc
import grpc.aio
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from services.kit.errors import Cancelled, Internal, Unavailable, WeftError, trailers

_BARE = ("/grpc.health.v1.", "/grpc.reflection.")
"""Calls that are nobody's business here: neither counted nor logged."""
_ROUTINE = ("/weft.router.v1.RouterService/RegisterWorker",)
"""Calls that every worker makes every few seconds: logged only when they fail."""
_ENDLESS = (
    "/grpc.health.v1.Health/Watch",
    "/weft.router.v1.RouterService/WatchWorkers",
    "/weft.embedder.v1.EmbedderService/WatchLoad",
)
"""Calls that last until the client leaves."""


Context = grpc.aio.ServicerContext[Any, Any]
Handler = Callable[[Any, Context], Any]


class CallMetrics:
    """Counts and times of the calls that a server answered."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.calls = Counter("weft_rpc_calls", "Calls by method and status.", ["method", "code"], registry=registry)
        self.seconds = Histogram(
            "weft_rpc_seconds",
            "Time from a call's arrival to its end.",
            ["method"],
            buckets=(0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 60, 300),
            registry=registry,
        )
        self.open = Gauge("weft_rpc_open", "Calls under way.", ["method"], registry=registry)


class Edge:
    """What happens at the edge of every call, whichever server carries it: counts, one log line, errors made known."""

    def __init__(self, metrics: CallMetrics) -> None:
        self._metrics = metrics
        self._log = structlog.get_logger("edge")

    def enter(self, method: str) -> float:
        """A call begins; the moment, for `leave`."""
        self._metrics.open.labels(method).inc()
        return time.monotonic()

    def told(self, error: Exception) -> WeftError:
        """The error as its caller is told."""
        if isinstance(error, WeftError):
            return error
        # What it was goes to the log with its traceback; the caller learns only that it is ours to mend.
        self._log.error("unexpected", exc_info=error)
        return Internal("an unexpected error; the service's log has the details", reason="UNEXPECTED")

    def leave(self, method: str, started_s: float, error: BaseException | None) -> None:
        """The call is over; anything but an Exception means that its client left."""
        elapsed_s = time.monotonic() - started_s
        if isinstance(error, WeftError):
            code, reason = error.code.name, error.reason
        elif error is None:
            code, reason = "OK", ""
        elif isinstance(error, Exception):
            code, reason = "INTERNAL", type(error).__name__
        else:
            code, reason = Cancelled.code.name, ""
        self._metrics.open.labels(method).dec()
        self._metrics.calls.labels(method, code).inc()
        self._metrics.seconds.labels(method).observe(elapsed_s)
        log = self._log.debug if error is None and method in _ROUTINE else self._log.info
        log("call", method=method, code=code, reason=reason, elapsed_ms=round(elapsed_s * 1e3, 1))


class EdgeInterceptor(grpc.aio.ServerInterceptor):
    """Turns what a handler raises into a gRPC status with `google.rpc` details.

    A handler that writes with `context.write` is awaited as it is, so the edge costs it nothing per message; one that
    yields pays one more frame per message, which suits calls that carry no tokens.
    """

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._endless: set[asyncio.Future[Any]] = set()
        self._stopping = False

    async def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "grpc.RpcMethodHandler[Any, Any] | None":
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None:
            return None
        wrap = self._wrap
        if method.startswith(_BARE):
            if method not in _ENDLESS:
                return handler
            wrap = self._bare
        make = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[handler.request_streaming, handler.response_streaming]
        inner: Any = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        return make(wrap(method, inner), handler.request_deserializer, handler.response_serializer)

    def _wrap(self, method: str, inner: Handler) -> Handler:
        handle = _writing(inner) if inspect.isasyncgenfunction(inner) else inner

        async def call(request: Any, context: Context) -> Any:
            started_s = self._edge.enter(method)
            error: BaseException | None = None
            try:
                return await handle(request, context)
            except Exception as caught:
                error = caught
                await self._abort(caught, context)
            except BaseException as caught:
                error = caught
                raise
            finally:
                self._edge.leave(method, started_s, error)

        return self._until_stop(call) if method in _ENDLESS else call

    def _bare(self, method: str, inner: Handler) -> Handler:
        return self._until_stop(inner)

    def _until_stop(self, inner: Handler) -> Handler:
        """The handler, ended by `stop`: its call would otherwise hold the server for the whole of its grace."""

        async def call(request: Any, context: Context) -> Any:
            task = asyncio.ensure_future(inner(request, context))
            self._endless.add(task)
            try:
                return await task
            except asyncio.CancelledError:
                if not self._stopping:
                    raise
                return await context.abort(Unavailable.code, "the service is stopping")
            finally:
                task.cancel()
                self._endless.discard(task)

        return call

    def stop(self) -> None:
        """Ends the calls that would never end by themselves."""
        self._stopping = True
        for task in list(self._endless):
            task.cancel()

    async def _abort(self, error: Exception, context: Context) -> NoReturn:
        """Ends the call with the status that the error stands for."""
        if isinstance(error, grpc.aio.AbortError):
            raise error
        told = self._edge.told(error)
        await context.abort(told.code, told.message, trailers(told))


def _writing(inner: Handler) -> Handler:
    """A handler that yields, as one that writes; what it holds is released as soon as the call is over."""

    async def call(request: Any, context: Context) -> None:
        async with aclosing(inner(request, context)) as messages:
            async for message in messages:
                await context.write(message)

    return call
