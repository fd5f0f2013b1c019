"""The sim engine's KV cache: what it holds, what goes first, who finds no room, and what routers are told of it."""

from services.worker.engines.sim.cache import KvCache
from services.worker.ports import CacheChange


def use(cache: KvCache, *blocks: int, more: int = 0) -> int:
    """One request from its prefill to its end; the number of blocks that it found."""
    found = cache.admit(blocks, more)
    assert found >= 0
    cache.release(blocks[: cache.store(blocks, found)], more)
    return found


def test_a_prefix_is_found_up_to_the_first_gap() -> None:
    cache = KvCache(10)
    assert use(cache, 1, 2, 3) == 0
    assert cache.matched((1, 2, 3, 4)) == 3
    assert cache.matched((1, 9, 3)) == 1
    assert cache.matched((9, 1)) == 0


def test_the_least_recently_used_go_first_and_ends_before_beginnings() -> None:
    cache = KvCache(4)
    use(cache, 1, 2)
    use(cache, 3, 4)
    use(cache, 1, 2)
    use(cache, 5)
    assert cache.matched((3, 4)) == 1, "the end of the older prompt made room"
    use(cache, 6, 7)
    assert (cache.matched((3,)), cache.matched((1, 2))) == (0, 1)
    assert sorted(cache.held()) == [1, 5, 6, 7]


def test_where_requests_hold_all_there_is_no_room() -> None:
    cache = KvCache(4)
    assert cache.admit((1, 2), 1) == 0
    assert cache.usage == 0.75
    assert cache.admit((3, 4), 0) == -1, "one block is free, and two are needed"
    assert cache.usage == 0.75, "and nothing was taken"
    assert cache.take()
    assert not cache.take()
    assert cache.usage == 1.0
    cache.release((), 4)
    assert cache.usage == 0.0
    assert cache.admit((3, 4), 0) == 0


def test_what_nobody_pins_makes_room_and_what_is_pinned_stays() -> None:
    cache = KvCache(4)
    use(cache, 1, 2)
    assert cache.admit((1, 2), 2) == 2
    assert cache.admit((3,), 0) == -1
    cache.release((1, 2), 2)
    assert cache.admit((3,), 2) == 0, "the end of the first prompt had to go"
    assert cache.matched((1, 2)) == 1


def test_a_prompt_of_kept_blocks_needs_no_others() -> None:
    cache = KvCache(3)
    use(cache, 1, 2, 3)
    assert cache.admit((1, 2, 3), 1) == -1, "there is no fourth block for its answer"
    assert cache.matched((1, 2, 3)) == 3
    assert cache.admit((1, 2), 1) == 2
    assert cache.matched((1, 2, 3)) == 2, "the third made room"


def test_a_block_that_two_hold_stays_until_both_are_over() -> None:
    cache = KvCache(2)
    assert cache.store((1, 2), cache.admit((1, 2), 0)) == 2
    assert cache.admit((1, 2), 0) == 2
    cache.release((1, 2), 0)
    assert cache.admit((3,), 0) == -1
    cache.release((1, 2), 0)
    assert cache.admit((3,), 0) == 0


def test_two_that_compute_the_same_share_it_as_soon_as_one_has_stored_it() -> None:
    cache = KvCache(10)
    assert (cache.admit((1, 2), 1), cache.admit((1, 2, 3), 1)) == (0, 0)
    assert cache.usage == 0.7
    cache.store((1, 2), 0)
    assert cache.usage == 0.7
    assert cache.pin((1, 2, 3), 0) == 2
    assert cache.usage == 0.5
    cache.store((1, 2, 3), 2)
    cache.release((1, 2, 3), 1)
    cache.release((1, 2), 1)
    assert (cache.usage, sorted(cache.held())) == (0.0, [1, 2, 3])


def test_changes_are_told_once_and_cancel_out() -> None:
    cache = KvCache(2)
    assert cache.take_change() is None
    use(cache, 1, 2)
    assert cache.take_change() == CacheChange((1, 2), ())
    assert cache.take_change() is None
    use(cache, 3)
    use(cache, 2)
    # 2 went and came back, and so is in neither.
    assert cache.take_change() == CacheChange((3,), (1,))


def test_what_a_router_is_told_is_what_the_cache_holds() -> None:
    cache = KvCache(5)
    told: set[int] = set()
    for number in range(200):
        # Prompts name prefixes: where two have a block in common, they have all before it.
        use(cache, *(number % 7 * 10 + depth for depth in range(number % 4)), more=number % 2)
        if number % 3 == 0 and (change := cache.take_change()):
            assert not set(change.removed) - told
            assert not set(change.stored) & told
            told = (told - set(change.removed)) | set(change.stored)
            assert told == set(cache.held())
    assert told


def test_the_newest_are_held_up_first() -> None:
    cache = KvCache(6)
    use(cache, 1, 2)
    cache.admit((1,), 0)
    use(cache, 3, 4)
    assert cache.held() == (1, 3, 4, 2)


def test_without_blocks_it_bounds_nothing() -> None:
    cache = KvCache(0)
    assert cache.admit((), 1000) == 0
    assert cache.take()
    cache.release((), 1001)
    assert (cache.matched((1,)), cache.usage, cache.take_change(), cache.held()) == (0, 0.0, None, ())
