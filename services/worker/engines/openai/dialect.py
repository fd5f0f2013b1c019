"""How servers of OpenAI's interface differ: what each can promise, and where it says how busy it is."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gauges:
    """Names of Prometheus series; those of several engines or models behind one server are added up."""

    running: str = ""
    waiting: str = ""
    kv_usage: str = ""
    steps: tuple[str, ...] = ()
    """Counters that move when the engine works."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """One kind of server. `health` is a path that answers 200 while the server is well."""

    name: str
    health: str
    gauges: Gauges
    token_ids: bool = False
    """It gives the ids of its tokens and takes ids as a prompt, so that an answer goes on from exactly its tokens."""
    continues: bool = False
    """It can go on with an answer that the prompt holds already."""
    replays_penalties: bool = False
    keep_connections: bool = True


VLLM = Dialect(
    "vllm",
    "/health",
    Gauges(
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
        "vllm:kv_cache_usage_perc",
        ("vllm:iteration_tokens_total_count", "vllm:generation_tokens_total", "vllm:prompt_tokens_total"),
    ),
    token_ids=True,
    continues=True,
)
# It gives ids on paths of its own only, and none for tokens that end in the middle of a character; whether it goes on
# exactly depends on its cache's type, which it does not tell. So it is asked for text. Its penalties look at the last
# tokens, whoever made them. It spends a thread on each open connection.
LLAMACPP = Dialect(
    "llamacpp",
    "/health",
    Gauges(
        "llamacpp:requests_processing",
        "llamacpp:requests_deferred",
        "",
        ("llamacpp:n_decode_total", "llamacpp:tokens_predicted_total", "llamacpp:prompt_tokens_total"),
    ),
    continues=True,
    replays_penalties=True,
    keep_connections=False,
)
SGLANG = Dialect(
    "sglang",
    "/health",
    Gauges(
        "sglang:num_running_reqs",
        "sglang:num_queue_reqs",
        "sglang:token_usage",
        ("sglang:generation_tokens_total", "sglang:prompt_tokens_total"),
    ),
    continues=True,
)
PLAIN = Dialect("plain", "/v1/models", Gauges())

DIALECTS = {dialect.name: dialect for dialect in (VLLM, LLAMACPP, SGLANG, PLAIN)}
