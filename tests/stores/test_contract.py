"""What every store promises, whichever it is."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from services.kit.errors import NotFound, Unavailable
from services.retriever.core.filters import compiled, facts_of
from services.retriever.document import Condition, Filter, Range
from services.retriever.ports import Store
from tests.stores.conftest import Opening
from tests.stores.documents import EAST, NORTH, PLACE, SPEC, chunks, commit, probe, record, texts, vector

# The client's local mode says so of each; a server needs them.
pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant:UserWarning")


async def test_a_document_is_found_with_everything_that_a_citation_needs(store: Store) -> None:
    await store.create(PLACE, SPEC)
    assert await commit(store, "x", "1", "heron wades", "swan sings", kind="bird") is False
    hits = await store.search(PLACE, probe("heron", EAST))
    assert texts(hits) == ["heron wades", "swan sings"]
    best = hits[0]
    assert best.record == record("x", "1", 2, {"kind": "bird"})
    assert best.chunk == chunks("heron wades")[0].chunk
    assert best.dense_score == pytest.approx(1.0, abs=1e-5)
    assert best.bm25_score > 0.0
    assert hits[1].bm25_score == 0.0
    counts = (await store.collections())[PLACE]
    assert (counts.documents, counts.chunks, counts.has_graph) == (1, 2, False)


@pytest.mark.parametrize(
    ("text", "near"), [("heron", b""), ("", EAST), ("heron", EAST)], ids=["words", "dense", "both"]
)
async def test_what_is_not_committed_is_not_found(store: Store, text: str, near: bytes) -> None:
    await store.create(PLACE, SPEC)
    await commit(store, "x", "1", "old heron")
    await store.add(PLACE, record("x", "2", 2), chunks("new heron"))
    await store.add(PLACE, record("y", "1", 2), chunks("another heron"))
    assert texts(await store.search(PLACE, probe(text, near))) == ["old heron"]
    assert (await store.collections())[PLACE].chunks == 1
    assert await store.commit(PLACE, record("x", "2", 2), chunks("last heron", first=1)) is True
    await store.abandon(PLACE, "y")
    assert texts(await store.search(PLACE, probe(text, near))) == ["last heron", "new heron"]
    counts = (await store.collections())[PLACE]
    assert (counts.documents, counts.chunks) == (1, 2)


async def test_a_commit_whose_beginning_is_lost_is_refused(store: Store) -> None:
    await store.create(PLACE, SPEC)
    await commit(store, "x", "1", "heron")
    with pytest.raises(Unavailable) as caught:
        await store.commit(PLACE, record("x", "2", 3), chunks("end", first=2))
    assert caught.value.reason == "STORE_RESTARTED"
    assert texts(await store.search(PLACE, probe("", EAST))) == ["heron"]


async def test_a_deleted_document_is_gone_and_another_cannot_be_deleted(store: Store) -> None:
    await store.create(PLACE, SPEC)
    await commit(store, "x", "1", "heron", "swan")
    await commit(store, "y", "1", "heron")
    assert await store.delete(PLACE, "x") == 2
    assert await store.record(PLACE, "x") is None
    assert [hit.record.document_id for hit in await store.search(PLACE, probe("heron", EAST))] == ["y"]
    with pytest.raises(NotFound):
        await store.delete(PLACE, "x")


async def test_words_of_deleted_documents_do_not_count(store: Store) -> None:
    await store.create(PLACE, SPEC)
    await store.create("fresh", SPEC)
    for place in (PLACE, "fresh"):
        for n in range(20):
            await commit(store, f"d{n}", "1", "lake and reed", place=place)
        await commit(store, "x", "1", "zebra", place=place)
    for n in range(10):
        await commit(store, f"z{n}", "1", "zebra zebra")
        await store.delete(PLACE, f"z{n}")
    (hit,), (fresh,) = [await store.search(place, probe("zebra")) for place in (PLACE, "fresh")]
    assert hit.bm25_score == pytest.approx(fresh.bm25_score, rel=0.02)


FILTERS = {
    "all": Filter(),
    "ids": Filter(document_ids=("b", "c")),
    "value": Filter(conditions=(Condition("kind", values=("heron", "swan")),)),
    "prefix": Filter(conditions=(Condition("kind", prefix="s"),)),
    "range": Filter(conditions=(Condition("year", range=Range(1990, 2000)),)),
    "open range": Filter(conditions=(Condition("year", range=Range(min=1999.5)),)),
    "source": Filter(conditions=(Condition("$source", prefix="https://example.org/b"),)),
    "language": Filter(conditions=(Condition("$language", values=("en",)),)),
    "page": Filter(conditions=(Condition("$page", values=("2",)),)),
    "pages": Filter(conditions=(Condition("$page", range=Range(max=1)),)),
    "ingested": Filter(conditions=(Condition("$ingested_at", range=Range(min=1_700_000_001)),)),
    "any": Filter(any_of=(Filter(document_ids=("a",)), Filter(conditions=(Condition("kind", values=("swan",)),)))),
    "none": Filter(none_of=(Filter(conditions=(Condition("kind", values=("swan",)),)), Filter(document_ids=("d",)))),
    "nested": Filter(
        conditions=(Condition("year", range=Range(min=0)),),
        any_of=(Filter(none_of=(Filter(conditions=(Condition("kind", prefix="he"),)),)), Filter(document_ids=("a",))),
    ),
    "odd key": Filter(conditions=(Condition("a.\"b\" = 'c'", values=("%_'",)),)),
    "nobody": Filter(conditions=(Condition("kind", values=("ostrich",)),)),
}


async def test_filters_let_pass_what_the_core_says(store: Store) -> None:
    await store.create(PLACE, SPEC)
    documents = {
        "a": {"kind": "heron", "year": "1989"},
        "b": {"kind": "swan", "year": "1990"},
        "c": {"kind": "stork", "year": "2000", "a.\"b\" = 'c'": "%_'"},
        "d": {"year": "unknown"},
    }
    kept = {document_id: record(document_id, "1", 2, metadata) for document_id, metadata in documents.items()}
    for document_id, one in kept.items():
        await store.commit(PLACE, one, chunks(f"{document_id} one", f"{document_id} two"))
    for name, wanted in FILTERS.items():
        expected = [
            f"{document_id} {word}"
            for document_id, one in kept.items()
            for page, word in enumerate(("one", "two"), 1)
            if compiled(wanted)(facts_of(one, page))
        ]
        listed = [document_id for document_id, one in kept.items() if compiled(wanted)(facts_of(one))]
        assert texts(await store.search(PLACE, probe("", EAST, wanted=wanted))) == expected, name
        assert texts(await store.search(PLACE, probe("one two", wanted=wanted))) == expected, name
        assert [found.document_id for found in await store.records(PLACE, wanted, "", 100)] == listed, name


async def test_documents_and_chunks_are_read_page_by_page(store: Store) -> None:
    await store.create(PLACE, SPEC)
    ids = ["A", "B2", "a", "a-1", "a.b", "b", "b_", "z"]
    for document_id in reversed(ids):
        await commit(store, document_id, "1", "heron")
    pages, after = list[str](), ""
    while page := await store.records(PLACE, Filter(), after, 3):
        pages += [found.document_id for found in page]
        after = page[-1].document_id
    assert pages == sorted(ids)
    vectors = [vector(1.0, n / 10) for n in range(10)]
    kept = chunks(*(f"chunk {n}" for n in range(10)), vectors=vectors)
    await store.commit(PLACE, record("z", "2", 10), kept)
    first = await store.chunks(PLACE, "z", "", 4)
    rest = await store.chunks(PLACE, "z", first[-1].chunk.chunk_id, 100)
    assert [item.chunk for item in [*first, *rest]] == [item.chunk for item in kept]
    assert all(near(found.vector, item.vector) for found, item in zip([*first, *rest], kept, strict=True))
    assert await store.chunks(PLACE, "nobody", "", 4) == []


def near(one: bytes, other: bytes) -> bool:
    return bool(np.allclose(np.frombuffer(one, "<f4"), np.frombuffer(other, "<f4"), atol=1e-6))


async def test_fusion_keeps_the_best_of_both(store: Store) -> None:
    await store.create(PLACE, SPEC)
    for document_id, text, at in (("both", "heron", EAST), ("near", "swan", EAST), ("word", "heron", NORTH)):
        await store.commit(PLACE, record(document_id, "1", 1), chunks(text, vectors=[at]))
    hits = await store.search(PLACE, replace(probe("heron", EAST, keep=2, limit=2), with_vectors=True))
    assert len(hits) == 2
    assert hits[0].record.document_id == "both"
    assert near(hits[0].vector, EAST)
    assert hits[0].score > hits[1].score


async def test_only_stop_words_find_nothing(store: Store) -> None:
    await store.create(PLACE, SPEC)
    await commit(store, "x", "1", "the heron")
    assert await store.search(PLACE, probe("the of and")) == []


async def test_what_is_gone_says_so(store: Store) -> None:
    await store.create(PLACE, SPEC)
    await commit(store, "x", "1", "heron")
    await store.drop(PLACE)
    await store.drop(PLACE)
    assert PLACE not in await store.collections()
    for work in (
        lambda: store.search(PLACE, probe("heron", EAST)),
        lambda: store.record(PLACE, "x"),
        lambda: commit(store, "x", "1", "heron"),
    ):
        with pytest.raises(NotFound) as caught:
            await work()
        assert caught.value.reason == "COLLECTION_GONE"


async def test_everything_is_there_after_a_restart_but_what_was_not_committed(opening: Opening) -> None:
    store = await opening.open()
    await store.create(PLACE, SPEC)
    await store.save_state(b"one")
    await store.save_state(b"state")
    await commit(store, "x", "1", "heron", "swan", kind="bird")
    await commit(store, "x", "2", "heron", "stork", kind="bird")
    await store.add(PLACE, record("x", "3", 2), chunks("draft"))
    await store.add(PLACE, record("y", "1", 2), chunks("draft"))
    store = await opening.open()
    assert await store.load_state() == b"state"
    assert await store.record(PLACE, "x") == record("x", "2", 2, {"kind": "bird"})
    assert texts(await store.search(PLACE, probe("heron", EAST))) == ["heron", "stork"]
    assert texts(await store.search(PLACE, probe("draft"))) == []
    assert await commit(store, "y", "1", "draft") is False
    counts = (await store.collections())[PLACE]
    assert (counts.documents, counts.chunks) == (2, 3)


async def test_an_empty_store_has_no_state(store: Store) -> None:
    assert await store.load_state() == b""
    assert dict(await store.collections()) == {}


async def test_quantised_collections_find_the_same(store: Store) -> None:
    await store.create(PLACE, replace(SPEC, quantised=True))
    for n in range(20):
        await store.commit(PLACE, record(f"d{n}", "1", 1), chunks("x", vectors=[vector(1.0, n / 5)]))
    hits = await store.search(PLACE, probe("", EAST, keep=3, limit=3))
    assert [hit.record.document_id for hit in hits] == ["d0", "d1", "d2"]


@pytest.mark.parametrize(
    ("text", "near"), [("heron", b""), ("", EAST), ("heron", EAST)], ids=["words", "dense", "both"]
)
async def test_readers_see_a_replaced_document_whole(store: Store, text: str, near: bytes) -> None:
    """Each version has another number of chunks, of which a reader finds all or none, and never none."""
    await store.create(PLACE, SPEC)
    sizes = [3, 7, 5, 9, 4, 8]
    await commit(store, "x", "0", *["heron 0"] * sizes[0])
    done = asyncio.Event()
    seen: set[str] = set()

    async def read() -> None:
        while not done.is_set():
            hits = await store.search(PLACE, probe(text, near))
            versions = {hit.record.version for hit in hits}
            assert len(versions) == 1, versions
            (version,) = versions
            assert {hit.chunk.text for hit in hits} == {f"heron {version}"}
            assert len(hits) == sizes[int(version)]
            seen.add(version)
            # The client's local mode answers without ever giving way.
            await asyncio.sleep(0)

    async def write() -> None:
        try:
            for version, size in enumerate(sizes[1:], 1):
                pieces = chunks(*[f"heron {version}"] * size)
                await store.add(PLACE, record("x", str(version), size), pieces[: size // 2])
                await store.commit(PLACE, record("x", str(version), size), pieces[size // 2 :])
        finally:
            done.set()

    await asyncio.gather(write(), *(read() for _ in range(4)))
    assert len(seen) > 1
