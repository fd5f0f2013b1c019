"""What the store's process is told at its start."""

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class StoreStart:
    """The collections' folder, and the settings of the same names."""

    folder: str
    hnsw_min_chunks: int
    bm25_k: float
    bm25_b: float
    bm25_average_words: float

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "StoreStart":
        """The inverse of `to_json`."""
        return cls(**json.loads(text))
