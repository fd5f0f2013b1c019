"""Logs (structlog, JSON lines on stderr), traces (OpenTelemetry, when an endpoint is set) and the metrics registry."""

import logging
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import grpc.aio
import structlog
from opentelemetry import trace
from opentelemetry.propagate import extract
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from services.kit.settings.shared import TelemetrySettings


def start_logging(service: str, level: str) -> None:
    """Sends one JSON object per line to stderr, each with the service's name. Prompts and keys are never logged."""
    number = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(stream=sys.stderr, level=max(number, logging.WARNING), format="%(message)s")
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            # Without the local variables of each frame: a prompt or a key would be among them.
            structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False)),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)


def start_tracing(service: str, settings: TelemetrySettings) -> None:
    """Exports spans to `otlp_endpoint`; does nothing where it is empty."""
    if not settings.otlp_endpoint:
        return
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": f"weft-{service}"}))
    exporter = OTLPSpanExporter(endpoint=settings.otlp_endpoint, insecure=settings.otlp_insecure)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)


def _tracing() -> bool:
    return type(trace.get_tracer_provider()).__name__ == "TracerProvider"


def trace_interceptors() -> list[grpc.aio.ServerInterceptor]:
    """Server interceptors that open a span per call, once `start_tracing` has set an exporter; otherwise none."""
    if not _tracing():
        return []
    from opentelemetry.instrumentation.grpc import aio_server_interceptor

    interceptor: Any = aio_server_interceptor()  # type: ignore[no-untyped-call] # the library has no types
    return [interceptor]


def call_span(method: str, metadata: Mapping[str, str]) -> AbstractContextManager[object]:
    """A span for one call, under the caller's where its metadata names one; nothing where traces are off."""
    if not _tracing():
        return nullcontext()
    tracer = trace.get_tracer("weft.lane")
    return tracer.start_as_current_span(method.lstrip("/"), extract(metadata), trace.SpanKind.SERVER)


def new_registry() -> CollectorRegistry:
    """A metrics registry of this process, with its CPU, memory and garbage collector readings."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry
