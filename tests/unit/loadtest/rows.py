"""Runs with plausible numbers, for tests that look at one or two of them."""

from dataclasses import replace
from typing import Any

from loadtest.figures import RequestRun, StreamRun

_STREAM = StreamRun(
    path="Weft Envoy, SSE",
    client="C",
    streams=10,
    tokens=2000,
    lost=0,
    wrong=0,
    failed=0,
    errors={},
    chunks_per_token=1.0,
    tokens_per_s=480.0,
    router_us=40.0,
    envoy_us=20.0,
    path_us=60.0,
    workers_us=5.0,
    client_us=4.0,
    ttft_p50_ms=2.0,
    ttft_p99_ms=3.0,
    itl_p50_ms=20.0,
    itl_p99_ms=21.0,
    itl_max_ms=25.0,
    machine_share=0.5,
    other_cores=0.0,
)
_REQUEST = RequestRun(
    path="Weft Envoy, SSE",
    client="C",
    requests=100,
    failed=0,
    errors={},
    per_s=900.0,
    router_us=800.0,
    envoy_us=160.0,
    path_us=960.0,
    workers_us=300.0,
    p50_ms=50.0,
    p99_ms=90.0,
    machine_share=0.9,
    other_cores=0.0,
)


def stream_run(**changes: Any) -> StreamRun:
    """One run of streams, with these fields changed."""
    return replace(_STREAM, **changes)


def request_run(**changes: Any) -> RequestRun:
    """One run of requests, with these fields changed."""
    return replace(_REQUEST, **changes)
