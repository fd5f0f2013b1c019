"""Maximal marginal relevance."""

import numpy as np
import pytest

from services.retriever.core.diversity import mmr


def vector(*values: float) -> bytes:
    found = np.asarray(values)
    return (found / np.linalg.norm(found)).astype("<f4").tobytes()


EAST, NEARLY_EAST, NORTH = vector(1, 0), vector(1, 0.01), vector(0, 1)


def test_what_repeats_goes_behind_what_is_new() -> None:
    assert [place for place, _ in mmr([1.0, 0.9, 0.5], [EAST, NEARLY_EAST, NORTH], 0.5, 3)] == [0, 2, 1]


def test_with_all_weight_on_relevance_nothing_changes() -> None:
    found = mmr([1.0, 0.9, 0.5], [EAST, NEARLY_EAST, NORTH], 1.0, 3)
    assert found == [(0, 1.0), (1, pytest.approx(0.8)), (2, 0.0)]


def test_scores_never_rise() -> None:
    rng = np.random.default_rng(3)
    scores = [score for _, score in mmr(list(rng.random(50)), [vector(*rng.random(4)) for _ in range(50)], 0.6, 50)]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("count", [0, 1, 9])
def test_no_more_than_there_are(count: int) -> None:
    assert len(mmr([0.5, 0.5], [EAST, NORTH], 0.7, count)) == min(count, 2)
    assert mmr([], [], 0.7, count) == []
