"""Turns between callers, and the cache's bound."""

from dataclasses import dataclass

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from services.embedder.cache import TextKeys, VectorCache
from services.embedder.fair import FairQueue
from services.embedder.metrics import EmbedderMetrics
from services.embedder.ports import Embedded, ModelInfo


@dataclass(eq=False)
class Item:
    number: int
    caller: object


def filled(**counts: int) -> FairQueue[Item]:
    queue: FairQueue[Item] = FairQueue()
    for caller, count in counts.items():
        for _ in range(count):
            queue.put(Item(len(queue), caller))
    return queue


def served(queue: FairQueue[Item], turns: int, cost: float = 1.0) -> str:
    """Whose items were served first, one at a time."""
    order = ""
    for _ in range(turns):
        item = queue.window(1)[0]
        order += str(item.caller)
        queue.serve(item, cost)
    return order


def test_one_caller_is_served_in_order() -> None:
    assert [item.number for item in filled(a=5).window(3)] == [0, 1, 2]


def test_callers_take_turns_however_much_they_sent() -> None:
    assert served(filled(a=1000, b=2, c=1), 8) == "abcabaaa"


def test_who_comes_later_does_not_catch_up_on_the_past() -> None:
    queue = filled(a=100)
    assert served(queue, 10) == "a" * 10
    for number in range(3):
        queue.put(Item(1000 + number, "b"))
    assert sorted(served(queue, 4)) == ["a", "a", "b", "b"]


def test_cost_counts_and_not_the_number_of_items() -> None:
    queue = filled(a=10, b=10)
    for _ in range(6):
        item = queue.window(1)[0]
        queue.serve(item, 100.0 if item.caller == "a" else 10.0)
    assert len([item for item in queue if item.caller == "a"]) == 9


def test_what_is_removed_is_gone() -> None:
    queue = filled(a=2)
    first, second = queue.window(2)
    assert queue.remove(first)
    assert not queue.remove(first)
    assert queue.window(5) == [second]
    assert len(queue) == 1


def vector(value: float) -> Embedded:
    return Embedded(np.full(100, value, np.float32), 3, False)


def test_the_cache_keeps_to_its_bytes_and_drops_what_was_used_least_recently() -> None:
    registry = CollectorRegistry()
    cache = VectorCache(2 * (400 + 400), EmbedderMetrics(registry))
    for name in (b"a", b"b"):
        cache.put(name, vector(1.0))
    assert cache.get(b"a") is not None
    cache.put(b"c", vector(2.0))
    assert cache.get(b"b") is None
    found = cache.get(b"c")
    assert found is not None
    assert found.vector[0] == 2.0
    assert registry.get_sample_value("weft_embedder_cache_bytes") == 1600
    assert registry.get_sample_value("weft_embedder_cache_lookups_total", {"outcome": "hit"}) == 2


def test_a_cache_of_no_bytes_is_off() -> None:
    registry = CollectorRegistry()
    cache = VectorCache(0, EmbedderMetrics(registry))
    cache.put(b"a", vector(1.0))
    assert cache.get(b"a") is None
    assert not registry.get_sample_value("weft_embedder_cache_lookups_total", {"outcome": "miss"})


@pytest.mark.parametrize(
    ("prefix", "same"), [pytest.param("", True, id="no prefixes"), pytest.param("query: ", False, id="a prefix")]
)
def test_purposes_share_vectors_where_nothing_tells_them_apart(prefix: str, same: bool) -> None:
    keys = TextKeys(ModelInfo("m", 8, 8, "f", "r", query_prefix=prefix))
    assert (keys.key("a", True) == keys.key("a", False)) is same
    assert keys.key("a", True) != keys.key("b", True)
