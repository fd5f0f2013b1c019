"""The sim engine's KV cache: blocks of prompts that requests share, and blocks that each has for itself. Pure."""

from collections import OrderedDict
from collections.abc import Sequence

from services.worker.ports import CacheChange


class KvCache:
    """At most `limit` blocks. Those of prompts are named by the hash of the prefix that ends with them.

    A request pins the named blocks that it uses, and takes unnamed ones for what is not computed yet and for its
    answer. Named blocks that nobody pins are kept until room is needed, and then those used longest ago go, the ends
    of prompts before their beginnings. A limit of 0 is a cache without blocks, which bounds nothing and keeps nothing.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pins: dict[int, int] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()
        self._unnamed = 0
        # What changed since it was last taken; a block that came and went is in neither.
        self._stored: dict[int, None] = {}
        self._removed: dict[int, None] = {}

    def __repr__(self) -> str:
        held = f"pinned={len(self._pins)} idle={len(self._idle)} unnamed={self._unnamed}"
        return f"KvCache({held} limit={self._limit})"

    @property
    def usage(self) -> float:
        """Share of the blocks that requests hold, 0 to 1; those that are only kept are free to whoever needs them."""
        return (len(self._pins) + self._unnamed) / self._limit if self._limit else 0.0

    def matched(self, hashes: Sequence[int], after: int = 0) -> int:
        """Blocks of the prompt that are held without a gap from the first on; the first `after` are known to be."""
        for depth in range(after, len(hashes)):
            if hashes[depth] not in self._pins and hashes[depth] not in self._idle:
                return depth
        return len(hashes)

    def admit(self, hashes: Sequence[int], more: int) -> int:
        """Room for a whole prompt and `more` unnamed blocks, or nothing is taken and -1 returned.

        Pins the blocks that `matched` counts and returns how many; for each of the others an unnamed one is taken.
        """
        if not self._limit:
            return 0
        count = self.matched(hashes)
        revived = sum(1 for block in hashes[:count] if block not in self._pins)
        unnamed = len(hashes) - count + more
        if len(self._pins) + revived + self._unnamed + unnamed > self._limit:
            return -1
        for block in hashes[:count]:
            self._pin(block)
        for _ in range(unnamed):
            self.take()
        return count

    def take(self) -> bool:
        """One more unnamed block for a request; False where requests hold all there are."""
        if self._limit:
            if len(self._pins) + len(self._idle) + self._unnamed >= self._limit:
                if not self._idle:
                    return False
                block, _ = self._idle.popitem(last=False)
                _note(block, self._removed, self._stored)
            self._unnamed += 1
        return True

    def pin(self, hashes: Sequence[int], pinned: int) -> int:
        """Shares what others have stored since: pins further blocks without a gap, each in place of an unnamed one.

        Returns how many are pinned now.
        """
        count = self.matched(hashes, pinned)
        for block in hashes[pinned:count]:
            self._name(block)
        return count

    def store(self, hashes: Sequence[int], pinned: int) -> int:
        """The prompt is prefilled: the unnamed blocks after its first `pinned` have names now. Returns how many."""
        for block in hashes[pinned:]:
            self._name(block)
        return len(hashes)

    def _name(self, block: int) -> None:
        if self._limit:
            self._unnamed -= 1
            self._pin(block)

    def _pin(self, block: int) -> None:
        count = self._pins.get(block, 0)
        if not count:
            if block in self._idle:
                del self._idle[block]
            else:
                _note(block, self._stored, self._removed)
        self._pins[block] = count + 1

    def release(self, hashes: Sequence[int], unnamed: int) -> None:
        """Frees one request's blocks: the named ones stay for others for as long as there is room."""
        if not self._limit:
            return
        self._unnamed -= unnamed
        for block in reversed(hashes):
            left = self._pins[block] - 1
            if left:
                self._pins[block] = left
            else:
                del self._pins[block]
                self._idle[block] = None

    def held(self) -> tuple[int, ...]:
        """Every named block, those that would go last first."""
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
