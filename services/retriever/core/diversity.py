"""Maximal marginal relevance: orders what was found so that passages say something new. Numbers only."""

from collections.abc import Sequence

import numpy as np


def mmr(relevance: Sequence[float], vectors: Sequence[bytes], weight: float, count: int) -> list[tuple[int, float]]:
    """The best `count` places, each with its score, which never rises (Carbonell and Goldstein, SIGIR 1998).

    A score is `weight` times the relevance, scaled to 0 to 1 over all places, less `1 - weight` times the largest
    cosine to what was chosen before. `vectors` are float32 of length 1.
    """
    if not relevance:
        return []
    low, high = min(relevance), max(relevance)
    scaled = np.asarray([(value - low) / (high - low) if high > low else 1.0 for value in relevance])
    matrix = np.stack([np.frombuffer(vector, "<f4") for vector in vectors])
    nearest = np.zeros(len(scaled))
    left = np.ones(len(scaled), dtype=bool)
    chosen: list[tuple[int, float]] = []
    for _ in range(min(count, len(scaled))):
        scores = np.where(left, weight * scaled - (1.0 - weight) * nearest, -np.inf)
        best = int(np.argmax(scores))
        chosen.append((best, float(scores[best])))
        left[best] = False
        nearest = np.maximum(nearest, matrix @ matrix[best])
    return chosen
