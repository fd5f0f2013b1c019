"""Builds worker rows for tests of the core."""

from typing import Any

from services.router.core.worker import Hello, Load, Worker, WorkerState

_ABILITIES = (
    *("kv_events", "logprobs", "replays_penalties", "structured_output", "replays_structure", "text_only"),
    "adapters",
)


def worker(worker_id: str = "w1", **fields: Any) -> Worker:
    """A serving worker with 4 places to run and 2 to wait; `fields` are those of Hello, Load and Worker."""
    hello = Hello(
        worker_id,
        "i",
        fields.pop("model", "m"),
        "fake",
        max_running=fields.pop("max_running", 4),
        max_waiting=fields.pop("max_waiting", 2),
        context_tokens=100,
        tokenizer_fingerprint=fields.pop("fingerprint", "t"),
        **{name: fields.pop(name) for name in _ABILITIES if name in fields},
    )
    load = Load(**{name: fields.pop(name) for name in ("running", "waiting", "queued_tokens") if name in fields})
    counts = load.queued_tokens > 0
    state = fields.pop("state", WorkerState.SERVING)
    return Worker(worker_id, "a:1", state, hello=hello, load=load, counts_queue=counts, **fields)
