"""Fuses ranked lists from different searches into one. Knows neither vectors nor documents."""

import math
from collections.abc import Callable, Mapping, Sequence

Ranking = Mapping[str, float]
"""Scores by key, higher is better; their scale is the search's own."""

Fuse = Callable[[Sequence[Ranking]], dict[str, float]]

RRF_K = 60
_SPREAD = 3.0


def ranked(scores: Ranking) -> list[str]:
    """Keys, best first; equal scores by key, so that the same scores always give the same order."""
    return sorted(scores, key=lambda key: (-scores[key], key))


def rrf(rankings: Sequence[Ranking]) -> dict[str, float]:
    """Reciprocal rank fusion with k = 60 (Cormack, Clarke and Büttcher, SIGIR 2009): looks at ranks alone."""
    fused: dict[str, float] = {}
    for scores in rankings:
        for rank, key in enumerate(ranked(scores), start=1):
            fused[key] = fused.get(key, 0.0) + 1.0 / (RRF_K + rank)
    return fused


def dbsf(rankings: Sequence[Ranking]) -> dict[str, float]:
    """Distribution-based score fusion: each list is scaled so that its mean ± 3 standard deviations span 0 to 1.

    A list whose scores are all equal says nothing of their order: each of them counts 0.5.
    """
    fused: dict[str, float] = {}
    for scores in rankings:
        for key, score in _scaled(scores).items():
            fused[key] = fused.get(key, 0.0) + score
    return fused


def _scaled(scores: Ranking) -> dict[str, float]:
    count = len(scores)
    mean = math.fsum(scores.values()) / count if count else 0.0
    variance = math.fsum((score - mean) ** 2 for score in scores.values()) / (count - 1) if count > 1 else 0.0
    low, width = mean - _SPREAD * math.sqrt(variance), 2 * _SPREAD * math.sqrt(variance)
    return {key: (score - low) / width if width > 0.0 else 0.5 for key, score in scores.items()}


def fused(dense: Ranking | None, words: Ranking | None, fuse: Fuse, keep: int) -> list[tuple[str, float]]:
    """The best `keep` keys with their scores. A search that was not asked for is None; the other's scores then stay."""
    scores = dict(dense or words or {}) if dense is None or words is None else fuse([dense, words])
    return [(key, scores[key]) for key in ranked(scores)[:keep]]


FUSIONS: Mapping[str, Fuse] = {"dbsf": dbsf, "rrf": rrf}
"""By the settings' names."""
