"""The embedder's readings for Prometheus."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class EmbedderMetrics:
    """Counts and times of texts and batches."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.texts = Counter("weft_embedder_texts", "Texts by outcome.", ["outcome"], registry=registry)
        self.tokens = Counter("weft_embedder_tokens", "Tokens embedded, padding left out.", registry=registry)
        self.padding = Counter("weft_embedder_padding_tokens", "Tokens of padding.", registry=registry)
        self.batches = Counter("weft_embedder_batches", "Batches by outcome.", ["outcome"], registry=registry)
        self.batch_seconds = Histogram(
            "weft_embedder_batch_seconds",
            "Time of one batch in the model.",
            buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
            registry=registry,
        )
        self._depth = Gauge("weft_embedder_queue_texts", "Texts that wait.", registry=registry)

    def watch_queue(self, depth: Callable[[], int]) -> None:
        """Reads the queue's depth from `depth` at each scrape."""
        self._depth.set_function(depth)
