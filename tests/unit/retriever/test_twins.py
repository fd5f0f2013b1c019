"""Near duplicates: who is found, who is forgotten, and what two at once see of each other."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.retriever.jobs.database import Database
from services.retriever.jobs.twins import Twins
from services.retriever.parsing.signature import signature_of


@pytest.fixture
async def twins(tmp_path: Path) -> AsyncIterator[Twins]:
    database = Database(tmp_path / "journal.sqlite3")
    await database.open()
    yield Twins(database, 0.85)
    await database.close()


def signature(first: int, changed: int = -1) -> bytes:
    return signature_of(" ".join("other" if n == changed else f"word{n}" for n in range(first, first + 300)))


async def kept(twins: Twins, index: str, document_id: str, value: bytes) -> tuple[str, ...]:
    async with twins.claim(index, document_id, value) as claim:
        claim.keep()
        return claim.twins


async def test_twins_are_found_within_their_index_until_they_are_forgotten(twins: Twins) -> None:
    assert await kept(twins, "a", "one", signature(0)) == ()
    assert await kept(twins, "a", "two", signature(0, 150)) == ("one",)
    assert await kept(twins, "a", "one", signature(0)) == ("two",)
    assert await kept(twins, "a", "far", signature(1000)) == ()
    assert await kept(twins, "b", "two", signature(0, 150)) == ()
    await twins.forget("a", "one")
    assert await kept(twins, "a", "two", signature(0, 150)) == ()


async def test_a_changed_document_is_found_by_its_new_text_alone(twins: Twins) -> None:
    await kept(twins, "a", "one", signature(0))
    await kept(twins, "a", "one", signature(1000))
    assert await kept(twins, "a", "two", signature(0)) == ()
    assert await kept(twins, "a", "three", signature(1000, 1100)) == ("one",)


async def test_a_document_that_failed_is_as_it_was_before(twins: Twins) -> None:
    await kept(twins, "a", "one", signature(0))
    with pytest.raises(RuntimeError):
        async with twins.claim("a", "one", signature(1000)):
            raise RuntimeError
    async with twins.claim("a", "new", signature(2000)):
        pass
    assert await kept(twins, "a", "two", signature(0, 5)) == ("one",)
    assert await kept(twins, "a", "three", signature(1000)) == ()
    assert await kept(twins, "a", "four", signature(2000)) == ()


async def test_of_two_at_once_the_later_waits_for_the_sooner(twins: Twins) -> None:
    order = []

    async def later() -> None:
        async with twins.claim("a", "two", signature(0, 150)) as claim:
            order.append(("two", claim.twins))

    async with twins.claim("a", "one", signature(0)) as claim:
        waiting = asyncio.create_task(later())
        for _ in range(5):
            await kept(twins, "a", "other", signature(5000))
        order.append(("one", claim.twins))
        claim.keep()
    await waiting
    assert order == [("one", ()), ("two", ("one",))]


async def test_two_that_were_twins_before_do_not_wait_for_each_other(twins: Twins) -> None:
    await kept(twins, "a", "one", signature(0))
    await kept(twins, "a", "two", signature(0, 150))
    async with asyncio.timeout(20):
        await asyncio.gather(kept(twins, "a", "one", signature(0, 3)), kept(twins, "a", "two", signature(0, 4)))
