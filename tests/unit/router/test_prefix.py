"""Prefix hashes as worker.proto defines them, and the index of who holds what."""

import random
from hashlib import blake2b

import pytest

from services.router.core.chat import Chat, Message, Role
from services.router.core.prefix import BLOCK_BYTES, PrefixIndex, block_hashes, prefix_hashes, prompt_bytes


def chat(*contents: str, role: Role = Role.USER) -> Chat:
    return Chat("m", tuple(Message(role, content) for content in contents))


def test_bytes_are_role_content_and_zero() -> None:
    messages = tuple(Message(role, role.value) for role in Role)
    assert prompt_bytes(Chat("m", messages)) == b"\x01system\0\x02user\0\x03assistant\0\x04tool\0"
    assert prompt_bytes(Chat("m", (), raw_prompt="ö")) == "ö".encode()


def test_hashes_are_chained_blake2b() -> None:
    data = bytes(range(256)) * 5
    first = blake2b(bytes(8) + data[:512], digest_size=8).digest()
    second = blake2b(first + data[512:1024], digest_size=8).digest()
    assert block_hashes(data) == tuple(int.from_bytes(digest, "little") for digest in (first, second))


@pytest.mark.parametrize(
    ("size_bytes", "blocks"),
    [
        pytest.param(0, 0, id="nothing"),
        pytest.param(BLOCK_BYTES - 1, 0, id="less than a block"),
        pytest.param(BLOCK_BYTES, 1, id="just one"),
        pytest.param(2 * BLOCK_BYTES + 1, 2, id="what is left over has none"),
    ],
)
def test_only_whole_blocks_have_hashes(size_bytes: int, blocks: int) -> None:
    assert len(block_hashes(bytes(size_bytes))) == blocks


def test_a_longer_conversation_begins_with_the_hashes_of_the_shorter() -> None:
    short, long = prefix_hashes(chat("x" * 3000)), prefix_hashes(chat("x" * 3000, "y" * 3000))
    assert long[: len(short)] == short
    assert set(prefix_hashes(chat("x" * 3000, role=Role.SYSTEM))).isdisjoint(short)
    assert set(prefix_hashes(chat("z" + "x" * 3000))).isdisjoint(short), "a prefix, not a part"


def test_match_is_the_longest_prefix_without_a_gap() -> None:
    index = PrefixIndex(100)
    index.store("a", (1, 2, 3))
    index.store("b", (1, 2, 9))
    index.store("c", (2, 3))
    assert index.match((1, 2, 3, 4)) == {"a": 3, "b": 2}
    assert index.match((1,)) == {"a": 1, "b": 1}
    assert index.match((2, 3)) == {"a": 2, "b": 1, "c": 2}
    assert index.match((7, 1)) == {}
    assert index.match(()) == {}


def test_exact_events() -> None:
    index = PrefixIndex(100)
    index.store("a", (1, 2, 3))
    index.store("b", (1,))
    index.remove("a", (2, 99))
    index.remove("nobody", (1,))
    assert index.match((1, 2, 3)) == {"a": 1, "b": 1}
    index.forget("a")
    index.forget("a")
    assert index.match((1, 2, 3)) == {"b": 1}
    assert len(index) == 1
    index.touch("a", (1,))
    assert index.match((1,)) == {"b": 1}, "a touch stores nothing"


@pytest.mark.parametrize("use", ["store", "touch"])
def test_what_was_used_longest_ago_goes_first_and_ends_before_beginnings(use: str) -> None:
    index = PrefixIndex(6)
    index.store("a", (1, 2, 3))
    index.store("a", (11, 12, 13))
    getattr(index, use)("a", (1, 2, 3))
    index.store("a", (21, 22))
    assert index.match((1, 2, 3)) == {"a": 3}
    assert index.match((11, 12, 13)) == {"a": 1}
    assert index.match((21, 22)) == {"a": 2}


def test_a_prompt_longer_than_the_bound_keeps_its_beginning() -> None:
    index = PrefixIndex(3)
    index.store("a", (1, 2, 3, 4, 5))
    assert index.match((1, 2, 3, 4, 5)) == {"a": 3}


def test_no_blocks_are_kept_where_none_are_allowed() -> None:
    index = PrefixIndex(0)
    index.store("a", (1, 2))
    assert (index.match((1,)), len(index)) == ({}, 0)


def test_the_index_never_exceeds_its_bound_and_agrees_with_a_plain_one() -> None:
    for seed in range(20):
        rng = random.Random(seed)
        bound, index, plain = 30, PrefixIndex(30), {name: dict[int, None]() for name in "abc"}
        for _ in range(400):
            name = rng.choice("abc")
            start = rng.randrange(8) * 10
            hashes = tuple(range(start, start + rng.randrange(10)))
            held = plain[name]
            match rng.randrange(12):
                case 0:
                    index.forget(name)
                    held.clear()
                case 1 | 2:
                    index.remove(name, hashes)
                    for block in hashes:
                        held.pop(block, None)
                case _:
                    index.store(name, hashes)
                    for block in reversed(hashes):
                        held.pop(block, None)
                        held[block] = None
                    while len(held) > bound:
                        del held[next(iter(held))]
            assert all(index.blocks(name) == len(plain[name]) <= bound for name in plain)
            assert len(index) == len({block for held in plain.values() for block in held})
            asked = tuple(range(start, start + 10))
            depth = {n: next((i for i, b in enumerate(asked) if b not in plain[n]), 10) for n in plain}
            assert index.match(asked) == {n: d for n, d in depth.items() if d}
