"""How a worker's speed is learned from first tokens."""

import random

import pytest

from services.router.core.rates import HALF_LIFE_S, Rates, Speed

PRIOR = Speed(0.0, 1 / 5000)


def learned(first_s: float, token_s: float, tokens: list[int], noise: float = 0.0, prior: Speed = PRIOR) -> Rates:
    rng, rates = random.Random(1), Rates()
    for second, count in enumerate(tokens):
        elapsed_s = (first_s + token_s * count) * (1 + noise * (rng.random() - 0.5))
        rates.prefilled(count, elapsed_s, float(second), prior)
    return rates


@pytest.mark.parametrize("token_s", [1 / 200, 1 / 20_000, 1 / 80_000])
def test_both_numbers_of_the_line_are_found(token_s: float) -> None:
    rng = random.Random(2)
    speed = learned(0.05, token_s, [rng.randrange(100, 8000) for _ in range(300)], noise=0.2).speed
    assert speed is not None
    assert speed.token_s == pytest.approx(token_s, rel=0.1)
    assert speed.first_s == pytest.approx(0.05, rel=0.6, abs=0.02)


def test_a_worker_that_gets_more_at_once_does_not_seem_faster() -> None:
    few = learned(0.05, 1e-4, [500, 1000, 1500] * 30).speed
    many = learned(0.05, 1e-4, [2000, 4000, 6000] * 30).speed
    assert few is not None
    assert many is not None
    for tokens in (500, 6000):
        first, second = (s.first_s + s.token_s * tokens for s in (few, many))
        assert first == pytest.approx(second, rel=0.1)


def test_equal_prompts_still_tell_slow_from_fast() -> None:
    fast, slow = learned(0.02, 1e-4, [500] * 50).speed, learned(0.08, 4e-4, [500] * 50).speed
    assert fast is not None
    assert slow is not None
    assert slow.first_s + slow.token_s * 500 > 3 * (fast.first_s + fast.token_s * 500)


def test_nothing_is_learned_from_nothing() -> None:
    rates = Rates()
    rates.prefilled(0, 1.0, 0.0, PRIOR)
    rates.prefilled(100, 0.0, 0.0, PRIOR)
    rates.stepped(0.0)
    assert rates == Rates()
    assert rates.expected(PRIOR, 9.0) == (PRIOR.first_s, PRIOR.token_s)


def test_evidence_fades_towards_what_is_known_of_others() -> None:
    rates = learned(0.0, 1e-3, [1000] * 50)
    assert rates.speed is not None
    half = rates.expected(PRIOR, 49.0 + HALF_LIFE_S)
    assert half[1] == pytest.approx((rates.speed.token_s + PRIOR.token_s) / 2)
    assert rates.expected(PRIOR, 49.0 + 40 * HALF_LIFE_S)[1] == pytest.approx(PRIOR.token_s)


def test_numbers_stay_finite_and_positive_whatever_comes() -> None:
    rng = random.Random(3)
    for _ in range(100):
        rates, now_s = Rates(), 0.0
        for _ in range(50):
            now_s += rng.expovariate(1.0) * 10 ** rng.uniform(-3, 4)
            rates.prefilled(10 ** rng.uniform(0, 6), 10 ** rng.uniform(-4, 3), now_s, PRIOR)
            first_s, token_s = rates.expected(PRIOR, now_s + rng.random() * 1e5)
            assert 0.0 <= first_s < 1e4
            assert 0.99e-3 * PRIOR.token_s <= token_s <= 1.01e3 * PRIOR.token_s
