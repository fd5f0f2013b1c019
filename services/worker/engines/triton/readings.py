"""Reads Triton's own metrics: how many requests of everyone its model runs and holds."""

import math
from dataclasses import dataclass

import httpx
from prometheus_client.parser import text_string_to_metric_families

# Triton's metrics with vLLM's take some 50 KB.
METRICS_BYTES_LIMIT = 4 * 1024 * 1024
# vLLM's, where the model sets REPORT_CUSTOM_METRICS, and Triton's own count of what its scheduler holds back.
_RUNNING, _WAITING = "vllm:num_requests_running", "vllm:num_requests_waiting"
_PENDING, _CACHE = "nv_inference_pending_request_count", ("vllm:gpu_cache_usage_perc", "vllm:kv_cache_usage_perc")
_WANTED = (_RUNNING, _WAITING, _PENDING, *_CACHE)


@dataclass(frozen=True, slots=True)
class Reading:
    """Requests of all of Triton's clients. `running` is None where the model does not report vLLM's metrics."""

    running: int | None
    waiting: int
    kv_usage: float


class MetricsError(Exception):
    """The metrics cannot be had; the text says why."""


async def read_metrics(client: httpx.AsyncClient, url: str, model: str) -> Reading:
    """Raises MetricsError where there is no answer, or not this model's metrics."""
    body = bytearray()
    try:
        async with client.stream("GET", url) as response:
            response.raise_for_status()
            async for data in response.aiter_bytes():
                body += data
                if len(body) > METRICS_BYTES_LIMIT:
                    raise MetricsError(f"{url} has more than {METRICS_BYTES_LIMIT} bytes")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise MetricsError(f"{url}: {error or type(error).__name__}") from error
    return parse_metrics(body.decode(errors="replace"), url, model)


def parse_metrics(text: str, url: str, model: str) -> Reading:
    """Values of several versions or instances of the model add up."""
    lines = [line for line in text.splitlines() if line.startswith(_WANTED)]
    found: dict[str, float] = {}
    try:
        for family in text_string_to_metric_families("\n".join(lines) + "\n"):
            for sample in family.samples:
                # The format has NaN and +Inf too.
                if sample.labels.get("model") == model and math.isfinite(sample.value):
                    found[sample.name] = found.get(sample.name, 0.0) + sample.value
    except (ValueError, LookupError) as error:
        raise MetricsError(f"{url} cannot be read: {error}") from error
    if not found:
        raise MetricsError(f"{url} says nothing of the model {model}")
    running = int(found[_RUNNING]) if _RUNNING in found else None
    usage = max((found[name] for name in _CACHE if name in found), default=0.0)
    waiting = int(found.get(_WAITING, 0.0)) + int(found.get(_PENDING, 0.0))
    return Reading(running, waiting, min(1.0, usage))
