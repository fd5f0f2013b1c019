"""Reads the public traces of LLM requests; where to get them stands in docs/policies.md."""

import csv
import json
import random
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

BLOCK_TOKENS = 512
"""Tokens in one of Mooncake's blocks."""
MOONCAKE_TICK_S = 3.0
"""Mooncake's arrival times are multiples of about this."""


@dataclass(frozen=True, slots=True)
class TraceRequest:
    """One request. Equal `blocks` from the first on are an equal beginning of the prompt; `session` may be empty."""

    arrival_s: float
    prompt_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()
    session: str = ""


def mooncake(path: Path, rng: random.Random) -> list[TraceRequest]:
    """Mooncake's conversations, each arrival moved to a random time within its tick.

    Every prompt begins with one block that is the same for all, so the second block stands for the session.
    """
    requests = []
    with path.open() as lines:
        for line in lines:
            row = json.loads(line)
            blocks = tuple(row["hash_ids"])
            arrival_s = row["timestamp"] / 1e3 + rng.random() * MOONCAKE_TICK_S
            session = str(blocks[1]) if len(blocks) > 1 else ""
            request = TraceRequest(arrival_s, row["input_length"], max(1, row["output_length"]), blocks, session)
            requests.append(request)
    return sorted(requests, key=lambda request: request.arrival_s)


def azure(path: Path) -> list[TraceRequest]:
    """Azure's traces of 2023 and 2024, which say nothing of prefixes or sessions."""
    requests = []
    with path.open() as lines:
        for row in csv.DictReader(lines):
            # 2023 has seven digits of a second and no zone, 2024 up to six and +00:00: both are UTC.
            at = datetime.fromisoformat(row["TIMESTAMP"].partition("+")[0][:26]).replace(tzinfo=UTC)
            tokens = max(1, int(row["ContextTokens"])), max(1, int(row["GeneratedTokens"]))
            requests.append(TraceRequest(at.timestamp(), *tokens))
    requests.sort(key=lambda request: request.arrival_s)
    return [replace(request, arrival_s=request.arrival_s - requests[0].arrival_s) for request in requests]


def ideal_share(requests: Sequence[TraceRequest], cache_blocks: int | None = None) -> float:
    """Share of prompt blocks that one cache for all would hold, of unlimited size or by least recent use."""
    held: OrderedDict[int, None] = OrderedDict()
    hits = total = 0
    for request in requests:
        hits += next((i for i, block in enumerate(request.blocks) if block not in held), len(request.blocks))
        total += len(request.blocks)
        for block in reversed(request.blocks):
            held[block] = None
            held.move_to_end(block)
        while cache_blocks is not None and len(held) > cache_blocks:
            held.popitem(last=False)
    return hits / total if total else 0.0
