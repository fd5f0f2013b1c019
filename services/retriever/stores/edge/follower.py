"""What has changed in a collection since a copy of it was made, and the copy that follows."""

from collections import deque
from pathlib import Path
from typing import Any

import qdrant_edge as qdrant

from services.retriever.stores.edge.refusal import RESOURCE_EXHAUSTED, Refusal

# Points that may have changed while a graph is built; over it the copy is given up, and made again later.
_MAX_POINTS = 200_000
# Points that are written to the copy at a time, between two searches.
_POINTS_AT_ONCE = 256


class Follower:
    """Made when the copying begins; `follow` until it says that it has caught up, then `shard` is the copy."""

    def __init__(self) -> None:
        self._changes: deque[tuple[Any, int]] = deque()
        self._points = 0
        self._shard: Any = None

    @property
    def shard(self) -> Any:
        """The copy, opened by the first `follow`."""
        return self._shard

    def note(self, operation: Any, points: int) -> None:
        """Something was changed."""
        self._points += points
        if self._points <= _MAX_POINTS:
            self._changes.append((operation, points))
        else:
            self._changes.clear()

    def follow(self, path: Path, config: Any) -> bool:
        """Writes the next changes to the copy; whether none is left, and then they are all on disk."""
        if self._points > _MAX_POINTS:
            raise Refusal(RESOURCE_EXHAUSTED, "GRAPH_OVERTAKEN", f"over {_MAX_POINTS} points changed meanwhile")
        if self._shard is None:
            self._shard = qdrant.EdgeShard.load(str(path), config)
            return False
        written = 0
        while self._changes and written < _POINTS_AT_ONCE:
            operation, points = self._changes.popleft()
            self._shard.update(operation)
            written += points
            self._points -= points
        if self._changes:
            return False
        self._shard.flush()
        return True

    def close(self) -> None:
        """Lets go of the copy."""
        if self._shard is not None:
            self._shard.close()
