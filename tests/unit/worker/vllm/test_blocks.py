"""Which prefixes are held: told against a slow and obvious model of the same, and case by case."""

import random

from services.worker.engines.vllm.blocks import Blocks
from services.worker.ports import CacheChange

SIZE = 4
PROMPT = list(range(12))
PREFIXES = ((3, 101), (6, 102), (12, 103))
"""Tokens needed and hash: the first lies in one block, the second needs two, the third all three."""


def test_prefixes_are_told_when_all_their_blocks_are_stored() -> None:
    blocks = Blocks(SIZE, 100)
    blocks.expect(PROMPT, PREFIXES)
    assert blocks.take_change() is None
    blocks.stored(["a", "b"], None, PROMPT[:8])
    assert blocks.take_change() == CacheChange((101, 102), ())
    blocks.stored(["c"], "b", PROMPT[8:])
    assert blocks.take_change() == CacheChange((103,), ())
    assert set(blocks.held()) == {101, 102, 103}


def test_a_prompt_that_comes_later_finds_its_blocks() -> None:
    blocks = Blocks(SIZE, 100)
    blocks.stored(["a", "b"], None, PROMPT[:8])
    assert blocks.take_change() is None
    blocks.expect(PROMPT, PREFIXES)
    assert blocks.take_change() == CacheChange((101, 102), ())


def test_a_block_that_goes_takes_all_after_it_along() -> None:
    blocks = Blocks(SIZE, 100)
    blocks.expect(PROMPT, PREFIXES)
    blocks.stored(["a", "b", "c"], None, PROMPT)
    blocks.take_change()
    blocks.removed(["b"])
    assert blocks.take_change() == CacheChange((), (102, 103))
    # It comes back under another name, and what was behind it never went.
    blocks.stored(["b2"], "a", PROMPT[4:8])
    assert blocks.take_change() == CacheChange((102, 103), ())
    blocks.removed(["a", "b2", "c"])
    assert blocks.take_change() == CacheChange((), (101, 102, 103))


def test_blocks_of_another_adapter_are_others() -> None:
    blocks = Blocks(SIZE, 100)
    blocks.expect(PROMPT, PREFIXES)
    blocks.expect(PROMPT, ((3, 201),), "pirate")
    blocks.stored(["a"], None, PROMPT[:4], "pirate")
    assert blocks.take_change() == CacheChange((201,), ())


def test_a_prompts_last_part_of_a_block_is_never_held() -> None:
    blocks = Blocks(SIZE, 100)
    blocks.expect(PROMPT[:7], PREFIXES[:2])
    blocks.stored(["a"], None, PROMPT[:4])
    assert blocks.take_change() == CacheChange((101,), ())


def test_the_cache_of_an_engine_that_died_is_empty() -> None:
    blocks = Blocks(SIZE, 100)
    blocks.expect(PROMPT, PREFIXES)
    blocks.stored(["a", "b", "c"], None, PROMPT)
    blocks.take_change()
    blocks.cleared()
    assert blocks.take_change() == CacheChange((), (101, 102, 103))
    assert (blocks.held(), len(blocks)) == ((), 0)
    blocks.stored(["c"], "b", PROMPT[8:])
    assert blocks.take_change() is None, "nobody knows what stands before it"


def test_what_is_expected_is_bounded() -> None:
    blocks = Blocks(SIZE, 50)
    for start in range(1000):
        ids = [start, *range(11)]
        blocks.expect(ids, ((12, start),))
    assert len(blocks) <= 50
    for start in range(1000):
        blocks.stored([f"{start}.{at}" for at in range(3)], None, [start, *range(11)])
        blocks.removed([f"{start}.{at}" for at in range(3)])
    assert len(blocks) <= 50


def test_against_a_simple_model() -> None:
    """Random prompts over few tokens share many beginnings; blocks come in order and go in any order."""
    chance = random.Random(5)
    blocks = Blocks(SIZE, 10_000)
    present: dict[tuple[int, ...], str] = {}
    expected: dict[int, tuple[int, ...]] = {}
    told: set[int] = set()
    names = iter(range(1_000_000))
    for _ in range(2_000):
        ids = tuple(chance.randrange(2) for _ in range(SIZE * chance.randrange(1, 5)))
        what = chance.randrange(3)
        if what == 0:
            for depth in range(SIZE, len(ids) + 1, SIZE):
                expected[hash(ids[:depth])] = ids[:depth]
            blocks.expect(ids, [(depth, hash(ids[:depth])) for depth in range(SIZE, len(ids) + 1, SIZE)])
        elif what == 1:
            held = 0
            while ids[: held + SIZE] in present and held < len(ids):
                held += SIZE
            new = [depth for depth in range(held + SIZE, len(ids) + 1, SIZE) if ids[:depth] not in present]
            for depth in new:
                if ids[: depth - SIZE] and ids[: depth - SIZE] not in present:
                    break
                present[ids[:depth]] = f"b{next(names)}"
                parent = present.get(ids[: depth - SIZE])
                blocks.stored([present[ids[:depth]]], parent, ids[depth - SIZE : depth])
        elif present:
            gone = chance.choice(sorted(present))
            blocks.removed([present.pop(gone)])
        if (change := blocks.take_change()) is not None:
            assert not told & set(change.stored)
            assert told >= set(change.removed)
            told = (told | set(change.stored)) - set(change.removed)
        should = {
            name
            for name, chain in expected.items()
            if all(chain[:depth] in present for depth in range(SIZE, len(chain) + 1, SIZE))
        }
        assert told == should
        assert set(blocks.held()) == should
