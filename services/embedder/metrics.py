"""The embedder's readings for Prometheus."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class EmbedderMetrics:
    """Counts and times of texts and batches, by model."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.texts = Counter("weft_embedder_texts", "Texts by outcome.", ["model", "outcome"], registry=registry)
        self.tokens = Counter(
            "weft_embedder_tokens", "Tokens embedded, padding left out.", ["model"], registry=registry
        )
        self.padding = Counter("weft_embedder_padding_tokens", "Tokens of padding.", ["model"], registry=registry)
        self.batches = Counter("weft_embedder_batches", "Batches by outcome.", ["model", "outcome"], registry=registry)
        self.batch_seconds = Histogram(
            "weft_embedder_batch_seconds",
            "Time of one batch in the model.",
            ["model"],
            buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
            registry=registry,
        )
        self.shared = Counter(
            "weft_embedder_shared_texts", "Texts that waited for an equal one that was under way.", registry=registry
        )
        self.cache = Counter("weft_embedder_cache_lookups", "Lookups by outcome.", ["outcome"], registry=registry)
        self.retries = Counter(
            "weft_embedder_remote_retries", "Requests sent to a remote model again.", ["model"], registry=registry
        )
        self._cache_bytes = Gauge("weft_embedder_cache_bytes", "Bytes of cached vectors.", registry=registry)
        self._depth = Gauge("weft_embedder_queue_texts", "Texts that wait.", ["model"], registry=registry)

    def watch_queue(self, model: str, depth: Callable[[], int]) -> None:
        """Reads a model's queue from `depth` at each scrape."""
        self._depth.labels(model).set_function(depth)

    def watch_cache(self, size: Callable[[], int]) -> None:
        """Reads the cache's bytes from `size` at each scrape."""
        self._cache_bytes.set_function(size)
