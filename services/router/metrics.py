"""The router's own metrics; those of its calls stand in the kit."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.kit.errors import WeftError
from services.router.answer import Answer
from services.router.core.recover import Ended
from services.router.core.table import WorkerTable

_TTFT_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class RouterMetrics:
    """Counts per answer, never per token."""

    def __init__(self, registry: CollectorRegistry, table: WorkerTable) -> None:
        self.answers = Counter("weft_answers", "Answers by how they ended.", ["model", "outcome"], registry=registry)
        self.tokens = Counter("weft_tokens", "Tokens sent to clients.", ["model"], registry=registry)
        self.picks = Counter("weft_picks", "Answers placed.", ["worker"], registry=registry)
        self.recoveries = Counter(
            "weft_recoveries", "Answers that went on after a failure.", ["failure", "step"], registry=registry
        )
        self.ttft = Histogram(
            "weft_ttft_seconds", "Arrival to first token.", ["model"], buckets=_TTFT_BUCKETS_S, registry=registry
        )
        registry.register(_TableCollector(table))

    def failed(self, answer: Answer, error: WeftError) -> None:
        """An answer failed. Labels are models that exist and status codes: nothing that callers can make up."""
        self.answers.labels(answer.model, error.code.name.lower()).inc()

    def answered(self, answer: Answer, ended: Ended) -> None:
        """An answer is complete."""
        model = answer.model
        self.answers.labels(model, ended.reason.value).inc()
        self.tokens.labels(model).inc(len(answer.token_ids))
        if answer.first_token_s is not None:
            self.ttft.labels(model).observe(answer.first_token_s - answer.arrived_s)


class _TableCollector(Collector):
    """Reads the worker table when it is scraped, so that nothing has to be kept up to date."""

    def __init__(self, table: WorkerTable) -> None:
        self._table = table

    def collect(self) -> Iterator[Metric]:
        readings = {
            "running": GaugeMetricFamily("weft_worker_running", "Requests that generate.", labels=["worker", "model"]),
            "waiting": GaugeMetricFamily("weft_worker_waiting", "Requests that wait.", labels=["worker", "model"]),
            "in_flight": GaugeMetricFamily("weft_worker_in_flight", "Placed here.", labels=["worker", "model"]),
            "state": GaugeMetricFamily("weft_worker_state", "1 for its state.", labels=["worker", "model", "state"]),
        }
        for row in self._table.snapshot():
            labels = [row.worker_id, row.model]
            readings["running"].add_metric(labels, row.load.running)
            readings["waiting"].add_metric(labels, row.load.waiting)
            readings["in_flight"].add_metric(labels, row.in_flight)
            readings["state"].add_metric([*labels, row.state.value], 1)
        yield from readings.values()
