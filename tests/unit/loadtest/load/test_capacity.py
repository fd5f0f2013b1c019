"""The search for the highest rate that holds."""

from collections.abc import Callable

import pytest

from loadtest.load.capacity import Bounds, Found, Probe, next_rate


def _search(
    holds: Callable[[float, int], bool],
    low: float = 5.0,
    high: float = 1000.0,
    precision: float = 0.1,
    confirm: int = 3,
) -> tuple[Found, list[Probe]]:
    probes: list[Probe] = []
    while not isinstance(step := next_rate(probes, low, high, precision, confirm), Found):
        assert len(probes) < 100, "the search does not end"
        rate, confirming = step
        probes.append(Probe(rate, "" if holds(rate, len(probes)) else "broke", confirming))
    return step, probes


@pytest.mark.parametrize("capacity", [5.5, 17.0, 120.0, 900.0])
def test_a_sharp_edge_is_found(capacity: float) -> None:
    found, probes = _search(lambda rate, _: rate <= capacity)
    assert found.breaks is not None
    assert found.holds <= capacity < found.breaks
    assert found.breaks / found.holds <= 1.1 + 1e-9
    assert sum(probe.rate_per_s == found.holds for probe in probes) == 3


def test_everything_holds() -> None:
    found, _ = _search(lambda rate, _: True)
    assert (found.holds, found.breaks) == (1000.0, None)


def test_nothing_holds() -> None:
    found, probes = _search(lambda rate, _: False)
    assert found.holds == 0.0
    assert len(probes) < 8


def test_below_the_lowest_is_looked_at_too() -> None:
    found, _ = _search(lambda rate, _: rate <= 2.0)
    assert 1.0 < found.holds <= 2.0


def test_a_rate_that_breaks_when_it_is_confirmed_is_no_capacity() -> None:
    seen: dict[float, int] = {}

    def holds(rate: float, _: int) -> bool:
        seen[rate] = seen.get(rate, 0) + 1
        # Above 50 the first run holds, by luck, and no other.
        return rate <= 50.0 or (rate <= 100.0 and seen[rate] == 1)

    found, _ = _search(holds)
    assert found.holds <= 50.0


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({}, ""),
        ({"times": {"ttft": {"p99_ms": 501.0}, "itl": {"p99_ms": 20.0}}}, "TTFT"),
        ({"times": {"ttft": {"p99_ms": 100.0}, "itl": {"p99_ms": 61.0}}}, "ITL"),
        ({"error_share": 0.02}, "failed"),
        ({"lost_tokens": 1}, "lost"),
        ({"repeated_tokens": 1}, "repeated"),
        ({"sent": 0, "times": {}, "error_share": 0.0}, "nothing was sent"),
    ],
)
def test_bounds(change: dict[str, object], word: str) -> None:
    whole = {
        "times": {"ttft": {"p99_ms": 499.0}, "itl": {"p99_ms": 59.0}},
        "sent": 100,
        "error_share": 0.01,
        "lost_tokens": 0,
        "repeated_tokens": 0,
        "missing_tokens": 0,
    }
    broken = Bounds(0.5, 0.06, 0.01).broken_by(whole | change)
    assert (word in broken) if word else not broken
