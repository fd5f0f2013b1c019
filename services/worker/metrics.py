"""The worker's own metrics; those of its calls are the kit's."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from services.kit.errors import WeftError
from services.worker.ports import Finish


class WorkerMetrics:
    """Set by the board, once a step."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.running = Gauge("weft_worker_running", "Requests that generate now.", registry=registry)
        self.waiting = Gauge("weft_worker_waiting", "Requests that wait in the engine.", registry=registry)
        self.broken = Gauge("weft_worker_broken", "1 while the engine cannot work, 0 otherwise.", registry=registry)
        self.links = Gauge("weft_worker_links", "Links and single calls open now.", registry=registry)
        self.tokens = Counter("weft_worker_tokens", "Tokens generated.", registry=registry)
        self.steps = Counter("weft_worker_steps", "Engine steps that brought tokens.", registry=registry)
        self.step_seconds = Histogram(
            "weft_worker_step_seconds",
            "Mean time of the latest engine steps, read at each step.",
            buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5),
            registry=registry,
        )
        self.prompt_tokens = Counter("weft_worker_prompt_tokens", "Prompt tokens of answers.", registry=registry)
        self.cached_tokens = Counter(
            "weft_worker_cached_tokens", "Those of them that the prefix cache held.", registry=registry
        )
        self.kv_usage = Gauge("weft_worker_kv_usage", "Share of the KV cache in use, 0 to 1.", registry=registry)
        self.requests = Counter("weft_worker_requests", "Requests by how they ended.", ["outcome"], registry=registry)

    def count(self, outcome: Finish | WeftError) -> None:
        """One more request is over."""
        label = outcome.reason.value if isinstance(outcome, Finish) else outcome.code.name.lower()
        self.requests.labels(label).inc()
        if isinstance(outcome, Finish):
            self.prompt_tokens.inc(outcome.prompt_tokens)
            self.cached_tokens.inc(outcome.cached_tokens)
