"""The sim engine's prefix cache: which blocks of prompts are held, and which go when there is no room. Pure."""

from collections import OrderedDict
from collections.abc import Sequence

from services.worker.ports import CacheChange


class PrefixCache:
    """At most `limit` blocks, each named by the hash of the prefix that ends with it.

    Blocks of requests under way are pinned. The others are kept until room is needed, and then those used longest ago
    go, the ends of prompts before their beginnings. Where all are pinned, more blocks are not kept.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pins: dict[int, int] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()
        # What changed since it was last taken; a block that came and went is in neither.
        self._stored: dict[int, None] = {}
        self._removed: dict[int, None] = {}

    def __repr__(self) -> str:
        return f"PrefixCache(pinned={len(self._pins)} idle={len(self._idle)} limit={self._limit})"

    @property
    def usage(self) -> float:
        """Share of the blocks that requests under way hold, 0 to 1."""
        return len(self._pins) / self._limit if self._limit else 0.0

    def matched(self, hashes: Sequence[int]) -> int:
        """Blocks of the prompt that are held without a gap from the first on."""
        for depth, block in enumerate(hashes):
            if block not in self._pins and block not in self._idle:
                return depth
        return len(hashes)

    def pin(self, hashes: Sequence[int]) -> int:
        """Pins the blocks that `matched` counts; returns how many."""
        count = self.matched(hashes)
        for block in hashes[:count]:
            self._hold(block)
        return count

    def store(self, hashes: Sequence[int], pinned: int) -> int:
        """The prompt is prefilled: keeps and pins what follows its first `pinned` blocks; returns how many are now."""
        for depth in range(pinned, len(hashes)):
            block = hashes[depth]
            if block not in self._pins and block not in self._idle and not self._make_room():
                return depth
            self._hold(block)
        return len(hashes)

    def _hold(self, block: int) -> None:
        count = self._pins.get(block, 0)
        if not count and block not in self._idle:
            _note(block, self._stored, self._removed)
        self._idle.pop(block, None)
        self._pins[block] = count + 1

    def _make_room(self) -> bool:
        if len(self._pins) + len(self._idle) < self._limit:
            return True
        if not self._idle:
            return False
        block, _ = self._idle.popitem(last=False)
        _note(block, self._removed, self._stored)
        return True

    def release(self, hashes: Sequence[int]) -> None:
        """Unpins these blocks of one prompt; they stay for others."""
        for block in reversed(hashes):
            left = self._pins[block] - 1
            if left:
                self._pins[block] = left
            else:
                del self._pins[block]
                self._idle[block] = None

    def held(self) -> tuple[int, ...]:
        """Every block, those that would go last first."""
        return (*reversed(self._pins), *reversed(self._idle))

    def take_change(self) -> CacheChange | None:
        """What changed since the last call."""
        if not self._stored and not self._removed:
            return None
        change = CacheChange(tuple(self._stored), tuple(self._removed))
        self._stored, self._removed = {}, {}
        return change


def _note(block: int, changed: dict[int, None], undone: dict[int, None]) -> None:
    if block in undone:
        del undone[block]
    else:
        changed[block] = None
