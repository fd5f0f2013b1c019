"""The sim engine's prefix cache: what it holds, what goes first, and what routers are told of it."""

from services.worker.engines.sim.cache import PrefixCache
from services.worker.ports import CacheChange


def use(cache: PrefixCache, *blocks: int) -> int:
    """One request from its prefill to its end; the number of blocks that it found."""
    found = cache.pin(blocks)
    cache.release(blocks[: cache.store(blocks, found)])
    return found


def test_a_prefix_is_found_up_to_the_first_gap() -> None:
    cache = PrefixCache(10)
    assert use(cache, 1, 2, 3) == 0
    assert cache.matched((1, 2, 3, 4)) == 3
    assert cache.matched((1, 9, 3)) == 1
    assert cache.matched((9, 1)) == 0


def test_the_least_recently_used_go_first_and_ends_before_beginnings() -> None:
    cache = PrefixCache(4)
    use(cache, 1, 2)
    use(cache, 3, 4)
    use(cache, 1, 2)
    use(cache, 5)
    assert cache.matched((3, 4)) == 1, "the end of the older prompt made room"
    use(cache, 6, 7)
    assert (cache.matched((3,)), cache.matched((1, 2))) == (0, 1)
    assert sorted(cache.held()) == [1, 5, 6, 7]


def test_blocks_of_requests_under_way_stay() -> None:
    cache = PrefixCache(3)
    assert cache.store((1, 2), cache.pin((1, 2))) == 2
    assert cache.store((3, 4, 5), cache.pin((3, 4, 5))) == 1, "there is room for one more, and nothing to evict"
    assert cache.usage == 1.0
    cache.release((3,))
    assert cache.usage == 2 / 3
    assert cache.matched((1, 2)) == 2


def test_a_block_that_two_hold_stays_until_both_are_over() -> None:
    cache = PrefixCache(2)
    for _ in range(2):
        cache.store((1, 2), cache.pin((1, 2)))
    cache.release((1, 2))
    assert cache.store((3,), 0) == 0
    cache.release((1, 2))
    assert cache.store((3,), 0) == 1


def test_changes_are_told_once_and_cancel_out() -> None:
    cache = PrefixCache(2)
    assert cache.take_change() is None
    use(cache, 1, 2)
    assert cache.take_change() == CacheChange((1, 2), ())
    assert cache.take_change() is None
    use(cache, 3)
    use(cache, 2)
    # 2 went and came back, and so is in neither.
    assert cache.take_change() == CacheChange((3,), (1,))


def test_what_a_router_is_told_is_what_the_cache_holds() -> None:
    cache = PrefixCache(5)
    told: set[int] = set()
    for number in range(200):
        use(cache, *(number * step % 13 for step in range(1, 1 + number % 4)))
        if number % 3 == 0 and (change := cache.take_change()):
            assert not set(change.removed) - told
            assert not set(change.stored) & told
            told = (told - set(change.removed)) | set(change.stored)
            assert told == set(cache.held())


def test_the_newest_are_held_up_first() -> None:
    cache = PrefixCache(5)
    use(cache, 1, 2)
    cache.pin((1,))
    use(cache, 3, 4)
    assert cache.held() == (1, 3, 4, 2)


def test_no_room_at_all() -> None:
    cache = PrefixCache(0)
    assert use(cache, 1, 2) == 0
    assert (cache.matched((1,)), cache.usage, cache.take_change(), cache.held()) == (0, 0.0, None, ())
