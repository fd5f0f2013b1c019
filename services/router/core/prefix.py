"""Prompt prefixes: their chained block hashes, and which workers hold which. It knows nothing of tokens or time."""

import hashlib
import struct
from collections import OrderedDict
from collections.abc import Iterable, Sequence

from services.router.core.chat import Chat, Role

BLOCK_BYTES = 512
_DIGEST_BYTES = 8
_FIRST = bytes(_DIGEST_BYTES)
_ROLE_BYTES = {Role.SYSTEM: b"\x01", Role.USER: b"\x02", Role.ASSISTANT: b"\x03", Role.TOOL: b"\x04"}


def prompt_bytes(chat: Chat) -> bytes:
    """The bytes that blocks are cut from, as worker.proto's KvEvent defines them."""
    if chat.raw_prompt is not None:
        return chat.raw_prompt.encode()
    return b"".join([_ROLE_BYTES[m.role] + m.content.encode() + b"\0" for m in chat.messages])


def prefix_hashes(chat: Chat) -> tuple[int, ...]:
    """One hash for each whole block of the prompt, first block first; each names the prefix that ends there."""
    return block_hashes(prompt_bytes(chat))


def block_hashes(data: bytes, adapter: str = "") -> tuple[int, ...]:
    """The chained hashes of the whole blocks of `data`; what is left over at the end has none.

    Requests for an adapter have a cache of their own, so its name goes before the first block.
    """
    blake2b = hashlib.blake2b
    previous = blake2b(adapter.encode(), digest_size=_DIGEST_BYTES).digest() if adapter else _FIRST
    digests = []
    for start in range(0, len(data) - BLOCK_BYTES + 1, BLOCK_BYTES):
        previous = blake2b(previous + data[start : start + BLOCK_BYTES], digest_size=_DIGEST_BYTES).digest()
        digests.append(previous)
    return struct.unpack(f"<{len(digests)}Q", b"".join(digests))


class PrefixIndex:
    """Which prefixes each worker's cache holds, as far as the router can tell.

    Each worker has at most `blocks_per_worker` blocks; over it those used longest ago go, the ends of prompts before
    their beginnings, as engines do. A hash is kept once for all workers, with one bit for each that holds it.
    """

    def __init__(self, blocks_per_worker: int) -> None:
        self._blocks_per_worker = blocks_per_worker
        self._bits: dict[int, int] = {}
        self._numbers: dict[str, int] = {}
        self._ids: dict[int, str] = {}
        self._held: dict[str, OrderedDict[int, None]] = {}

    def __repr__(self) -> str:
        held = ", ".join(f"{worker_id}: {len(blocks)}" for worker_id, blocks in sorted(self._held.items()))
        return f"PrefixIndex({held})"

    def __len__(self) -> int:
        """Different blocks that are known."""
        return len(self._bits)

    def blocks(self, worker_id: str) -> int:
        """Blocks that the worker is taken to hold."""
        return len(self._held.get(worker_id, ()))

    def match(self, hashes: Sequence[int]) -> dict[str, int]:
        """Blocks of the prompt that each worker holds without a gap from the first on; those with none are left out."""
        bits = self._bits
        depth, held = 0, -1
        found: dict[str, int] = {}
        for block in hashes:
            still = held & bits.get(block, 0)
            if still != held:
                if depth:
                    self._note(held & ~still, depth, found)
                if not still:
                    return found
                held = still
            depth += 1
        if depth:
            self._note(held, depth, found)
        return found

    def _note(self, workers: int, depth: int, found: dict[str, int]) -> None:
        while workers:
            lowest = workers & -workers
            found[self._ids[lowest.bit_length() - 1]] = depth
            workers ^= lowest

    def store(self, worker_id: str, hashes: Sequence[int]) -> None:
        """The worker holds these blocks of one prompt now, first block first, or was seen to use them again."""
        blocks = self._held.get(worker_id)
        if blocks is None:
            if not hashes:
                return
            blocks = self._join(worker_id)
        bit, bits = 1 << self._numbers[worker_id], self._bits
        # From the end to the beginning, so that a prompt's end is older than what it rests on.
        for block in reversed(hashes[: self._blocks_per_worker]):
            if block in blocks:
                blocks.move_to_end(block)
            else:
                blocks[block] = None
                bits[block] = bits.get(block, 0) | bit
        while len(blocks) > self._blocks_per_worker:
            self._clear_bit(blocks.popitem(last=False)[0], bit)

    def touch(self, worker_id: str, hashes: Sequence[int]) -> None:
        """The worker used those of these blocks that it holds."""
        blocks = self._held.get(worker_id, OrderedDict())
        for block in reversed(hashes):
            if block in blocks:
                blocks.move_to_end(block)

    def remove(self, worker_id: str, hashes: Iterable[int]) -> None:
        """The worker dropped these blocks."""
        blocks = self._held.get(worker_id)
        if blocks is None:
            return
        bit = 1 << self._numbers[worker_id]
        for block in hashes:
            if block in blocks:
                del blocks[block]
                self._clear_bit(block, bit)

    def forget(self, worker_id: str) -> None:
        """The worker's cache is empty, or the worker is gone."""
        blocks = self._held.pop(worker_id, None)
        if blocks is None:
            return
        number = self._numbers.pop(worker_id)
        del self._ids[number]
        for block in blocks:
            self._clear_bit(block, 1 << number)

    def _join(self, worker_id: str) -> OrderedDict[int, None]:
        """Gives the worker the lowest number that is free, so that the bits stay few."""
        number = next(n for n in range(len(self._ids) + 1) if n not in self._ids)
        self._numbers[worker_id] = number
        self._ids[number] = worker_id
        blocks = self._held[worker_id] = OrderedDict()
        return blocks

    def _clear_bit(self, block: int, bit: int) -> None:
        left = self._bits[block] & ~bit
        if left:
            self._bits[block] = left
        else:
            del self._bits[block]
