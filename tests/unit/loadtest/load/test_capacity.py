"""The search for the highest rate that holds."""

from collections.abc import Callable

import pytest
from typer.testing import CliRunner

from loadtest.load.capacity import GROW, Bounds, Found, Probe, Tally, next_rate, tallies
from loadtest.load.commands.app import build


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
    assert (found.holds, found.breaks) == (0.0, 5.0 / 32)
    assert [probe.rate_per_s for probe in probes] == [5.0, 2.5, 1.25, 0.625, 0.3125, 0.15625, 0.15625]


@pytest.mark.parametrize("capacity", [4.0, 2.0, 0.3])
def test_below_the_lowest_is_looked_at_too(capacity: float) -> None:
    found, _ = _search(lambda rate, _: rate <= capacity)
    assert found.breaks is not None
    assert found.holds <= capacity < found.breaks


@pytest.mark.parametrize("unlucky", range(20))
@pytest.mark.parametrize("capacity", [3.0, 17.0, 120.0])
def test_one_unlucky_run_changes_nothing(capacity: float, unlucky: int) -> None:
    found, probes = _search(lambda rate, number: rate <= capacity and number != unlucky)
    assert found.breaks is not None
    assert found.holds <= capacity < found.breaks
    assert found.breaks / found.holds <= 1.1 + 1e-9
    assert tallies(probes)[found.holds].held >= 3
    assert tallies(probes)[found.breaks].broke >= 2


def test_a_rate_that_broke_is_measured_again_and_most_runs_decide() -> None:
    broke = [Probe(10.0, ""), Probe(11.0, "broke")]
    assert next_rate(broke, 10.0, 100.0, 0.2, 1) == (11.0, True)
    split = [*broke, Probe(11.0, "")]
    assert next_rate(split, 10.0, 100.0, 0.2, 1) == (11.0, True)
    assert next_rate([*split, Probe(11.0, "broke")], 10.0, 100.0, 0.2, 1) == Found(10.0, 11.0)
    assert next_rate([*split, Probe(11.0, "")], 10.0, 100.0, 0.2, 1) == (11.0 * GROW, False)
    assert tallies(split) == {10.0: Tally(1, 0), 11.0: Tally(1, 1)}


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
    ],
)
def test_bounds(change: dict[str, object], word: str) -> None:
    whole = {
        "times": {"ttft": {"p99_ms": 499.0}, "itl": {"p99_ms": 59.0}},
        "error_share": 0.01,
        "lost_tokens": 0,
        "repeated_tokens": 0,
        "missing_tokens": 0,
    }
    broken = Bounds(0.5, 0.06, 0.01).broken_by(whole | change)
    assert (word in broken) if word else not broken


def test_more_confirming_runs_than_a_search_can_make_are_refused() -> None:
    refused = CliRunner().invoke(build(), ["capacity", "--confirm", "21"])
    assert refused.exit_code == 2
    assert "20" in refused.output
