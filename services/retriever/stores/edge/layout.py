"""How a collection's vectors are laid out, while it is served and while its graph is built."""

from typing import Any

import numpy as np
import qdrant_edge as qdrant

from services.retriever.document import Spec

DENSE, WORDS = "dense", "words"
# Kilobytes of vectors that no segment reaches: what is served is never rearranged, since that holds up every search.
_NEVER_KB = 1 << 40
_QUANTILE = 0.99
_M, _EF_CONSTRUCT = 16, 128


def config_of(spec: Spec, optimizers: Any = None, hnsw: Any = None) -> Any:
    """The layout of the vectors, with a log."""
    quantised = qdrant.ScalarQuantizationConfig(qdrant.ScalarType.Int8, _QUANTILE, always_ram=True)
    dense = qdrant.EdgeVectorParams(
        size=spec.model.dimensions,
        distance=qdrant.Distance.Cosine,
        quantization_config=quantised if spec.quantised else None,
    )
    return qdrant.EdgeConfig(
        vectors={DENSE: dense},
        sparse_vectors={WORDS: qdrant.EdgeSparseVectorParams(modifier=qdrant.Modifier.Idf)},
        optimizers=optimizers,
        hnsw_config=hnsw,
        wal_enabled=True,
    )


def served_config(spec: Spec) -> Any:
    """For answering: nothing is ever optimised."""
    return config_of(spec, qdrant.EdgeOptimizersConfig(indexing_threshold=_NEVER_KB))


def graph_config(spec: Spec, threads: int) -> Any:
    """For building: everything gets a graph, and what was deleted goes."""
    optimizers = qdrant.EdgeOptimizersConfig(indexing_threshold=1, deleted_threshold=0.0001, vacuum_min_vector_number=1)
    hnsw = qdrant.HnswIndexConfig(_M, _EF_CONSTRUCT, 10_000, max_indexing_threads=threads)
    return config_of(spec, optimizers, hnsw)


def dense_values(vector: bytes) -> list[float]:
    """A vector's numbers."""
    found: list[float] = np.frombuffer(vector, "<f4").tolist()
    return found
