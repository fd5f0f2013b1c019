"""Vectors of texts that were embedded before, the least recently used dropped first. Bounded in bytes."""

import hashlib
from collections import OrderedDict

from services.embedder.metrics import EmbedderMetrics
from services.embedder.ports import Embedded, ModelInfo

# What an entry takes beyond its vector's own bytes: key, array header, tuple, dictionary.
_ENTRY_BYTES = 400
_KEY_BYTES = 20


class TextKeys:
    """Names texts by the model's fingerprint, the prefix of their purpose, and their content."""

    def __init__(self, info: ModelInfo) -> None:
        # Two purposes without prefixes share their vectors.
        self._start = {query: _hash(f"{info.fingerprint}\0{info.prefix(query)}\0") for query in (True, False)}

    def key(self, text: str, query: bool) -> bytes:
        """Twenty bytes, which no other text is known to have."""
        found = self._start[query].copy()
        # Lone halves of surrogate pairs cannot come over the wire, so every text can be encoded.
        found.update(text.encode())
        return found.digest()


def _hash(text: str) -> "hashlib.blake2b":
    return hashlib.blake2b(text.encode(), digest_size=_KEY_BYTES)


class VectorCache:
    """Holds up to `limit_bytes`; 0 turns it off. Belongs to one event loop."""

    def __init__(self, limit_bytes: int, metrics: EmbedderMetrics) -> None:
        self._limit_bytes = limit_bytes
        self._hits, self._misses = metrics.cache.labels("hit"), metrics.cache.labels("miss")
        self._entries: OrderedDict[bytes, Embedded] = OrderedDict()
        self.bytes = 0
        metrics.watch_cache(lambda: self.bytes)

    def __repr__(self) -> str:
        return f"VectorCache({len(self._entries)} vectors, {self.bytes} of {self._limit_bytes} bytes)"

    def get(self, key: bytes) -> Embedded | None:
        """The vector, which is the most recently used now; None where it is not here."""
        if not self._limit_bytes:
            return None
        found = self._entries.get(key)
        if found is None:
            self._misses.inc()
        else:
            self._hits.inc()
            self._entries.move_to_end(key)
        return found

    def put(self, key: bytes, embedded: Embedded) -> None:
        """Keeps a copy, so that the batch that the vector is a row of can be freed."""
        size = _size(embedded)
        if size > self._limit_bytes or key in self._entries:
            return
        self._entries[key] = Embedded(embedded.vector.copy(), embedded.tokens, embedded.truncated)
        self.bytes += size
        while self.bytes > self._limit_bytes:
            _, dropped = self._entries.popitem(last=False)
            self.bytes -= _size(dropped)


def _size(embedded: Embedded) -> int:
    return embedded.vector.nbytes + _ENTRY_BYTES
