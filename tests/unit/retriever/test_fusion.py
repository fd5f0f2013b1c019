"""Fusion of rankings."""

import pytest

from services.retriever.core.fusion import dbsf, ranked, rrf


def test_rrf_adds_reciprocal_ranks() -> None:
    fused = rrf([{"a": 9.0, "b": 1.0}, {"b": 0.5}])
    assert fused == {"a": pytest.approx(1 / 61), "b": pytest.approx(1 / 62 + 1 / 61)}
    assert ranked(fused) == ["b", "a"]


def test_dbsf_scales_each_list_by_its_spread() -> None:
    fused = dbsf([{"a": 100.0, "b": 50.0, "c": 0.0}, {"a": 1.0, "c": 0.0, "b": 0.5}])
    assert ranked(fused) == ["a", "b", "c"]
    assert fused["b"] == pytest.approx(1.0)
    assert fused["a"] - fused["b"] == pytest.approx(2 * 1 / 6)


@pytest.mark.parametrize("scores", [{"a": 3.0}, {"a": 3.0, "b": 3.0}], ids=["one", "equal"])
def test_dbsf_of_scores_that_say_nothing_is_one_half(scores: dict[str, float]) -> None:
    assert set(dbsf([scores]).values()) == {0.5}


@pytest.mark.parametrize("fuse", [rrf, dbsf])
def test_nothing_fuses_to_nothing(fuse: object) -> None:
    assert callable(fuse)
    assert fuse([]) == {}
    assert fuse([{}, {}]) == {}


def test_equal_scores_are_ordered_by_key() -> None:
    assert ranked({"b": 1.0, "a": 1.0, "c": 2.0}) == ["c", "a", "b"]
