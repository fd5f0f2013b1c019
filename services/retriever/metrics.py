"""The retriever's own metrics; calls and processes are counted by the kit."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_STAGE_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2, 10, 60)


class RetrieverMetrics:
    """Counts documents and times the stages of ingests and searches."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.documents = Counter(
            "weft_retriever_documents", "Documents handed in, by outcome.", ["outcome"], registry=registry
        )
        self.failures = Counter(
            "weft_retriever_failures", "Documents that failed, by reason.", ["reason"], registry=registry
        )
        self.chunks = Counter("weft_retriever_chunks", "Chunks stored.", registry=registry)
        self.ingest_seconds = Histogram(
            "weft_retriever_ingest_seconds",
            "Time of one document in each stage: parse, embed, store.",
            ["stage"],
            buckets=_STAGE_BUCKETS,
            registry=registry,
        )
        self.search_seconds = Histogram(
            "weft_retriever_search_seconds",
            "Time of one search in each stage: embed, store, rerank.",
            ["mode", "stage"],
            buckets=_STAGE_BUCKETS,
            registry=registry,
        )
        self.in_flight = Gauge("weft_retriever_documents_in_flight", "Documents being ingested.", registry=registry)
        self.store_restarts = Counter(
            "weft_retriever_store_restarts",
            "Times that the store's process had to be started again.",
            registry=registry,
        )
