"""Which embedder of a pool a call goes to, and when a failing one is left alone."""

import pytest

from services.kit.embedding.breaker import Breaker
from services.kit.embedding.pick import Standing, View, pick


def view(address: str, **fields: object) -> View:
    usual = {"standing": Standing.SERVING, "lets_through": True, "tokens_ahead": 0, "tokens_per_s": 0, "under_way": 0}
    return View(address, **{**usual, **fields})  # type: ignore[arg-type] # the fields are those of View


@pytest.mark.parametrize(
    ("views", "tried", "expected"),
    [
        pytest.param([], [], None, id="nobody"),
        pytest.param([view("b"), view("a")], [], "a", id="equals by address"),
        pytest.param([view("a", under_way=1), view("b")], [], "b", id="equals by calls under way"),
        pytest.param([view("a", tokens_ahead=100), view("b", tokens_ahead=50)], [], "b", id="fewer tokens ahead"),
        pytest.param(
            [view("a", tokens_ahead=100, tokens_per_s=1000), view("b", tokens_ahead=50, tokens_per_s=100)],
            [],
            "a",
            id="time counts, not tokens",
        ),
        pytest.param(
            [view("a", tokens_ahead=100, tokens_per_s=1000), view("b", tokens_ahead=90)],
            [],
            "b",
            id="an unknown rate is the others' mean",
        ),
        pytest.param([view("a"), view("b")], ["a"], "b", id="not again where it failed"),
        pytest.param([view("a", lets_through=False), view("b", tokens_ahead=9)], [], "b", id="not through a breaker"),
        pytest.param([view("a"), view("b")], ["a", "b"], None, id="all were tried"),
        *(
            pytest.param([view("a", standing=standing), view("b", tokens_ahead=9)], [], "b", id=standing.value)
            for standing in Standing
            if standing is not Standing.SERVING
        ),
    ],
)
def test_pick(views: list[View], tried: list[str], expected: str | None) -> None:
    assert pick(views, tried) == expected


def test_three_failures_in_a_row_open_the_breaker_and_one_probe_goes_through() -> None:
    breaker = Breaker()
    for _ in range(2):
        breaker.failed(0.0)
    assert breaker.lets_through(0.0)
    breaker.failed(0.0)
    assert not breaker.lets_through(0.9)
    assert breaker.opens_in_s(0.4) == pytest.approx(0.6)
    assert breaker.lets_through(1.0)
    breaker.began(1.0)
    assert not breaker.lets_through(1.1)
    breaker.failed(1.2)
    assert not breaker.lets_through(3.1)
    assert breaker.lets_through(3.2)
    breaker.began(3.2)
    breaker.succeeded()
    assert breaker.lets_through(3.2)


def test_a_success_forgets_the_failures() -> None:
    breaker = Breaker()
    for _ in range(10):
        breaker.failed(0.0)
        breaker.succeeded()
    assert breaker.lets_through(0.0)
