"""Names the prefixes of a prompt as worker.proto's KvEvent defines them. It keeps nothing."""

import hashlib

from services.worker.ports import Conversation, Prompt, Rendered, Role

BLOCK_BYTES = 512
TOKEN_BYTES = 4
_DIGEST_BYTES = 8
_FIRST = bytes(_DIGEST_BYTES)
_ROLE_BYTES = {Role.SYSTEM: b"\x01", Role.USER: b"\x02", Role.ASSISTANT: b"\x03", Role.TOOL: b"\x04"}


def prompt_bytes(prompt: Prompt) -> bytes:
    """The bytes that blocks are cut from."""
    if isinstance(prompt, Conversation):
        return b"".join([_ROLE_BYTES[turn.role] + turn.content.encode() + b"\0" for turn in prompt.messages])
    if isinstance(prompt, Rendered):
        return prompt.text.encode()
    return b"".join([token.to_bytes(TOKEN_BYTES, "little") for token in prompt.ids])


def prefix_hashes(data: bytes, adapter: str = "") -> tuple[int, ...]:
    """One hash for each whole block, first block first; each names the prefix that ends with its block.

    A request for an adapter has a cache of its own, so its hashes are others than the model's for the same prompt.
    """
    previous = hashlib.blake2b(adapter.encode(), digest_size=_DIGEST_BYTES).digest() if adapter else _FIRST
    hashes = []
    for start in range(0, len(data) - BLOCK_BYTES + 1, BLOCK_BYTES):
        block = previous + data[start : start + BLOCK_BYTES]
        previous = hashlib.blake2b(block, digest_size=_DIGEST_BYTES).digest()
        hashes.append(int.from_bytes(previous, "little"))
    return tuple(hashes)
