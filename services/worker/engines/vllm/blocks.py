"""Which prefixes of prompts vLLM's cache holds: its blocks of tokens, named by what they hold, and the hashes on them.

Pure. vLLM reports blocks by hashes of its own, whose seed is not known; here a block's name is a chain over its tokens,
so that a prompt finds its blocks before vLLM has seen it.
"""

import hashlib
from array import array
from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterable, Sequence

from services.worker.ports import CacheChange

_DIGEST_BYTES = 12


class _Block:
    """`present` is vLLM's word; `reached` means that the block and all before it are present."""

    __slots__ = ("children", "hashes", "name", "parent", "present", "reached")

    def __init__(self, name: bytes, parent: "_Block | None") -> None:
        self.name = name
        self.parent = parent
        self.children: list[_Block] = []
        self.hashes: tuple[int, ...] = ()
        self.present = False
        self.reached = False


class Blocks:
    """At most `limit` blocks that are not in the cache are remembered, for prompts that are about to bring them.

    What is in the cache is bounded by its size. Over the limit the oldest absent block is forgotten, and with it its
    hashes: they are never reported, which costs a router a hit and nothing more.
    """

    def __init__(self, block_size: int, limit: int) -> None:
        self._block_size = block_size
        self._limit = limit
        self._blocks: dict[bytes, _Block] = {}
        self._absent: OrderedDict[bytes, None] = OrderedDict()
        self._theirs: dict[Hashable, _Block] = {}
        # How many reached blocks complete a prefix; those used last stand last.
        self._held: OrderedDict[int, int] = OrderedDict()
        self._changed: Counter[int] = Counter()

    def __repr__(self) -> str:
        return f"Blocks(present={len(self._theirs)} absent={len(self._absent)} prefixes={len(self._held)})"

    def resize(self, block_size: int, limit: int) -> None:
        """Only while it is empty: the size is known when the engine has loaded."""
        assert not self._blocks
        self._block_size, self._limit = block_size, limit

    def __len__(self) -> int:
        return len(self._blocks)

    def expect(self, ids: Sequence[int], prefixes: Iterable[tuple[int, int]], adapter: str = "") -> None:
        """A prompt comes. `prefixes` are (tokens needed, hash), rising; they are told once their blocks are stored."""
        size, parent, name, depth = self._block_size, None, _root(adapter), 0
        for needed, prefix in prefixes:
            blocks = -(-needed // size)
            if blocks * size > len(ids):
                # vLLM keeps whole blocks only.
                break
            while depth < blocks:
                name = _chain(name, ids[depth * size : (depth + 1) * size])
                parent = self._block(name, parent)
                depth += 1
            assert parent is not None
            if prefix not in parent.hashes:
                parent.hashes += (prefix,)
                if parent.reached:
                    self._hold(prefix)
            elif prefix in self._held:
                self._held.move_to_end(prefix)
        self._forget()

    def _block(self, name: bytes, parent: _Block | None) -> _Block:
        block = self._blocks.get(name)
        if block is None:
            block = self._blocks[name] = _Block(name, parent)
            self._absent[name] = None
            if parent is not None:
                parent.children.append(block)
        elif block.parent is None and parent is not None:
            # The block before it was forgotten and is here again.
            block.parent = parent
            parent.children.append(block)
        return block

    def _forget(self) -> None:
        while len(self._absent) > self._limit:
            name, _ = self._absent.popitem(last=False)
            self._drop(self._blocks[name])

    def _drop(self, block: _Block) -> None:
        """Out of the table; blocks after it can no longer be reached until vLLM reports the chain anew."""
        del self._blocks[block.name]
        if block.parent is not None:
            block.parent.children.remove(block)
        for child in block.children:
            child.parent = None

    def stored(
        self, theirs: Sequence[Hashable], parent: Hashable | None, ids: Sequence[int], adapter: str = ""
    ) -> None:
        """vLLM stored blocks one after the other, with all of their tokens. A chain of unknown origin is ignored."""
        before = self._theirs.get(parent) if parent is not None else None
        if parent is not None and before is None:
            return
        name, size = (before.name if before is not None else _root(adapter)), self._block_size
        for at, own in enumerate(theirs):
            name = _chain(name, ids[at * size : (at + 1) * size])
            block = self._block(name, before)
            self._theirs[own] = block
            if not block.present:
                block.present = True
                self._absent.pop(name, None)
                self._reach(block)
            before = block

    def removed(self, theirs: Iterable[Hashable]) -> None:
        """vLLM dropped these blocks; unknown ones are ignored."""
        for own in theirs:
            block = self._theirs.pop(own, None)
            if block is None:
                continue
            block.present = False
            self._reach(block)
            if block.hashes or block.children:
                if self._blocks.get(block.name) is block:
                    self._absent[block.name] = None
            elif self._blocks.get(block.name) is block:
                self._drop(block)
        self._forget()

    def cleared(self) -> None:
        """vLLM's cache is empty, or what it holds is not known any more."""
        for prefix in list(self._held):
            self._changed[prefix] -= 1
        self._blocks.clear()
        self._absent.clear()
        self._theirs.clear()
        self._held.clear()

    def _reach(self, first: _Block) -> None:
        """Works out anew which of this block and those after it can be reached."""
        todo = [first]
        while todo:
            block = todo.pop()
            rooted = block.parent.reached if block.parent is not None else self._is_first(block)
            reached = block.present and rooted
            if reached == block.reached:
                continue
            block.reached = reached
            for prefix in block.hashes:
                if reached:
                    self._hold(prefix)
                else:
                    self._release(prefix)
            todo += block.children

    def _is_first(self, block: _Block) -> bool:
        return block.name[:1] == b"\0"

    def _hold(self, prefix: int) -> None:
        count = self._held.get(prefix, 0)
        self._held[prefix] = count + 1
        if not count:
            self._changed[prefix] += 1

    def _release(self, prefix: int) -> None:
        self._held[prefix] -= 1
        if not self._held[prefix]:
            del self._held[prefix]
            self._changed[prefix] -= 1

    def take_change(self) -> CacheChange | None:
        """What changed since the last call; a prefix that came and went is in neither. None: nothing."""
        if not self._changed:
            return None
        stored = tuple(prefix for prefix, by in self._changed.items() if by > 0)
        removed = tuple(prefix for prefix, by in self._changed.items() if by < 0)
        self._changed.clear()
        return CacheChange(stored, removed) if stored or removed else None

    def held(self) -> tuple[int, ...]:
        """Every prefix, those used last first."""
        return tuple(reversed(self._held))


def _root(adapter: str) -> bytes:
    return b"\2" + adapter.encode()


def _chain(before: bytes, ids: Sequence[int]) -> bytes:
    """A first block's name begins with a zero byte, so that it is known without its parent; all others with a one."""
    digest = hashlib.blake2b(before, digest_size=_DIGEST_BYTES)
    digest.update(array("I", ids).tobytes())
    return (b"\0" if before[:1] == b"\2" else b"\1") + digest.digest()
