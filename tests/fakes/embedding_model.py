"""A model without weights: a token is a word, a vector tells its text apart. Tests hold it at a gate or break it."""

import hashlib
import threading
from collections.abc import Sequence

import numpy as np

from services.embedder.ports import ModelInfo, Prepared, Vectors

MAX_TOKENS = 256
INFO = ModelInfo("fake-model", 384, MAX_TOKENS, "f00d", "fake")


def word_id(word: str) -> int:
    return int.from_bytes(hashlib.sha256(word.encode()).digest()[:3], "big")


def vector_of(text: str) -> list[float]:
    """What the model answers for a text."""
    ids = [word_id(word) for word in text.split()] or [0]
    return [float(value) for value in np.random.default_rng(ids).standard_normal(INFO.dimensions).astype(np.float32)]


class FakeModel:
    """A network of this process. `gate` cleared holds every batch; a text with the word `poison` breaks its batch."""

    def __init__(self) -> None:
        self.info = INFO
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.batches: list[list[int]] = []

    def encode(self, texts: Sequence[str]) -> list[Prepared]:
        found = []
        for text in texts:
            ids = [word_id(word) for word in text.split()] or [0]
            kept = tuple(ids[:MAX_TOKENS])
            found.append(Prepared(len(kept), len(ids) > MAX_TOKENS, kept))
        return found

    def embed(self, batch: Sequence[Prepared]) -> Vectors:
        self.batches.append([len(text.ids) for text in batch])
        self.entered.release()
        assert self.gate.wait(30), "nobody opened the gate"
        if any(word_id("poison") in text.ids for text in batch):
            raise RuntimeError("poisoned")
        rows = [np.random.default_rng(list(text.ids)).standard_normal(INFO.dimensions) for text in batch]
        return np.array(rows, np.float32)
