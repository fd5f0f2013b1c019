"""The store's own promises, without its process: what a crash at any point leaves, and what searches may see."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.retriever.document import Chunk, EmbeddingModel, Filter, Fusion, Probe, Record, Spec, Vectored
from services.retriever.stores.edge.catalog import Catalog
from services.retriever.stores.edge.follower import Follower
from services.retriever.stores.edge.graph_process import build
from services.retriever.stores.edge.operations import (
    Abandon,
    Add,
    BeginGraph,
    Commit,
    Create,
    Delete,
    Drop,
    DueGraph,
    FindRecord,
    Flush,
    FollowGraph,
    ListCollections,
    Search,
)
from services.retriever.stores.edge.packing import unpacked
from services.retriever.stores.edge.refusal import Refusal
from services.retriever.stores.edge.start import StoreStart

SPEC = Spec(EmbeddingModel("model", "print", 4), "english", False)
MODES = {"hybrid": (True, True), "dense": (True, False), "words": (False, True)}
NOTHING = Filter()


def opened(folder: Path, hnsw_min_chunks: int = 10_000) -> Catalog:
    return Catalog(StoreStart(str(folder), hnsw_min_chunks, 1.2, 0.75, 100.0))


def record(document_id: str, version: str, chunks: int) -> Record:
    return Record(document_id, f"{document_id}.md", "Title", "text/markdown", "hash", version, chunks, 1.5, {"k": "v"})


def chunks(*texts: str, first: int = 0) -> tuple[Vectored, ...]:
    vector = np.asarray([1, 0, 0, 0], "<f4").tobytes()
    return tuple(
        Vectored(Chunk(f"{n:05d}", text, "", (), 0, 0, len(text)), vector) for n, text in enumerate(texts, first)
    )


def commit(catalog: Catalog, document_id: str, version: str, *texts: str) -> bool:
    if "i" not in catalog.do(ListCollections()):
        catalog.do(Create("i", SPEC))
    replaced: bool = catalog.do(Commit("i", record(document_id, version, len(texts)), chunks(*texts)))
    return replaced


def texts(catalog: Catalog, mode: str = "dense") -> list[str]:
    dense, words = MODES[mode]
    vector = np.asarray([1, 0, 0, 0], "<f4").tobytes() if dense else b""
    probe = Probe("heron swan otter" if words else "", vector, 10, 10, Fusion.RRF, NOTHING, with_vectors=False)
    found = unpacked(catalog.do(Search("i", probe)))
    return sorted(hit.chunk.text for hit in found)


def crashed(catalog: Catalog, folder: Path) -> Catalog:
    """What a process finds that starts on the folder as it is now, with nothing flushed or closed."""
    copy = folder.with_name(f"{folder.name}-after")
    shutil.copytree(folder, copy)
    catalog.close()
    return opened(copy)


def test_a_committed_document_survives_a_crash(tmp_path: Path) -> None:
    catalog = opened(tmp_path / "a")
    assert commit(catalog, "x", "1", "heron", "swan") is False
    after = crashed(catalog, tmp_path / "a")
    assert texts(after) == ["heron", "swan"]
    assert after.do(FindRecord("i", "x")) == record("x", "1", 2)
    counts = after.do(ListCollections())["i"]
    assert (counts.documents, counts.chunks, counts.has_graph) == (1, 2, False)
    after.close()


@pytest.mark.parametrize("mode", MODES)
def test_what_is_not_committed_is_not_found(tmp_path: Path, mode: str) -> None:
    catalog = opened(tmp_path / "a")
    commit(catalog, "x", "1", "heron")
    catalog.do(Add("i", record("x", "2", 2), chunks("swan")))
    catalog.do(Add("i", record("y", "1", 2), chunks("otter")))
    assert texts(catalog, mode) == ["heron"]
    catalog.do(Commit("i", record("x", "2", 2), chunks("swan too", first=1)))
    assert texts(catalog, mode) == ["swan", "swan too"]
    catalog.close()


def test_a_crash_before_the_commit_leaves_the_old_version(tmp_path: Path) -> None:
    catalog = opened(tmp_path / "a")
    commit(catalog, "x", "1", "heron")
    catalog.do(Add("i", record("x", "2", 2), chunks("swan")))
    catalog.do(Add("i", record("y", "1", 2), chunks("otter")))
    after = crashed(catalog, tmp_path / "a")
    assert texts(after) == ["heron"]
    assert after.do(FindRecord("i", "y")) is None
    after.close()


def test_a_crash_amid_a_replacement_leaves_one_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = opened(tmp_path / "a")
    commit(catalog, "x", "1", "heron", "otter")

    def crash(*_: Any) -> None:
        raise RuntimeError

    with monkeypatch.context() as patched:
        patched.setattr("services.retriever.stores.edge.shard.Shard._drop_other_versions", crash)
        with pytest.raises(RuntimeError):
            commit(catalog, "x", "2", "swan")
    after = crashed(catalog, tmp_path / "a")
    assert texts(after) == ["swan"]
    assert after.do(ListCollections())["i"].chunks == 1
    after.close()


def test_a_commit_whose_beginning_was_lost_is_refused(tmp_path: Path) -> None:
    catalog = opened(tmp_path / "a")
    catalog.do(Create("i", SPEC))
    catalog.do(Add("i", record("x", "1", 2), chunks("heron")))
    after = crashed(catalog, tmp_path / "a")
    with pytest.raises(Refusal) as caught:
        after.do(Commit("i", record("x", "1", 2), chunks("swan", first=1)))
    assert caught.value.answer.reason == "STORE_RESTARTED"
    assert texts(after) == []
    after.close()


def test_abandoned_chunks_are_gone_and_the_old_version_stays(tmp_path: Path) -> None:
    catalog = opened(tmp_path / "a")
    commit(catalog, "x", "1", "heron")
    catalog.do(Add("i", record("x", "2", 2), chunks("swan")))
    catalog.do(Abandon("i", "x"))
    assert texts(catalog) == ["heron"]
    assert commit(catalog, "x", "3", "otter") is True
    assert texts(catalog) == ["otter"]
    catalog.close()


def test_a_second_draft_takes_the_place_of_the_first(tmp_path: Path) -> None:
    catalog = opened(tmp_path / "a")
    catalog.do(Create("i", SPEC))
    catalog.do(Add("i", record("x", "1", 2), chunks("heron")))
    catalog.do(Add("i", record("x", "2", 2), chunks("swan")))
    catalog.do(Commit("i", record("x", "2", 2), chunks("swan too", first=1)))
    assert texts(catalog) == ["swan", "swan too"]
    catalog.close()


def test_a_document_is_deleted_while_its_next_version_is_written(tmp_path: Path) -> None:
    catalog = opened(tmp_path / "a")
    commit(catalog, "x", "1", "heron")
    catalog.do(Add("i", record("x", "2", 2), chunks("swan")))
    assert catalog.do(Delete("i", "x")) == 1
    assert texts(catalog) == []
    assert catalog.do(Commit("i", record("x", "2", 2), chunks("swan too", first=1))) is False
    assert texts(catalog) == ["swan", "swan too"]
    catalog.close()


def test_a_deleted_document_stays_deleted_after_a_crash(tmp_path: Path) -> None:
    catalog = opened(tmp_path / "a")
    commit(catalog, "x", "1", "heron")
    commit(catalog, "y", "1", "swan")
    catalog.do(Delete("i", "x"))
    after = crashed(catalog, tmp_path / "a")
    assert texts(after) == ["swan"]
    after.close()


def test_flushing_changes_nothing_that_is_seen(tmp_path: Path) -> None:
    catalog = opened(tmp_path / "a")
    commit(catalog, "x", "1", "heron")
    catalog.do(Flush())
    assert texts(catalog) == ["heron"]
    catalog.close()
    assert texts(opened(tmp_path / "a")) == ["heron"]


def test_one_damaged_index_takes_no_other_along(tmp_path: Path) -> None:
    catalog = opened(tmp_path / "a")
    commit(catalog, "x", "1", "heron")
    catalog.close()
    damaged = tmp_path / "a" / "damaged"
    damaged.mkdir()
    (damaged / "index.json").write_text("{")
    catalog = opened(tmp_path / "a")
    assert texts(catalog) == ["heron"]
    for operation in (FindRecord("damaged", "x"), Commit("damaged", record("x", "1", 0), ())):
        with pytest.raises(Refusal) as caught:
            catalog.do(operation)
        assert caught.value.answer.reason == "INDEX_DAMAGED"
    catalog.do(Drop("damaged"))
    assert not damaged.exists()
    catalog.close()


@pytest.mark.parametrize("left", [".new-i", ".deleted-i"])
def test_what_a_crash_left_of_an_index_is_cleared_away(tmp_path: Path, left: str) -> None:
    (tmp_path / "a" / left / "shard").mkdir(parents=True)
    catalog = opened(tmp_path / "a")
    assert catalog.do(ListCollections()) == {}
    assert not (tmp_path / "a" / left).exists()
    commit(catalog, "x", "1", "heron")
    assert texts(catalog) == ["heron"]
    catalog.close()


def grown(folder: Path) -> Catalog:
    """A catalog whose collection wants a graph."""
    catalog = opened(folder, hnsw_min_chunks=1000)
    catalog.do(Create("i", SPEC))
    many = tuple(
        replace(item, vector=np.random.default_rng(n).standard_normal(4).astype("<f4").tobytes())
        for n, item in enumerate(chunks(*(f"heron {n}" for n in range(3000))))
    )
    catalog.do(Commit("i", record("many", "1", len(many)), many))
    return catalog


def test_a_graph_takes_over_with_what_was_written_meanwhile(tmp_path: Path) -> None:
    catalog = grown(tmp_path / "a")
    commit(catalog, "gone", "1", "swan")
    commit(catalog, "old", "1", "swan")
    assert catalog.do(DueGraph()) == "i"
    source, target = map(Path, catalog.do(BeginGraph("i")))
    shutil.copytree(source, target)
    assert catalog.do(DueGraph()) == ""
    commit(catalog, "new", "1", "otter")
    commit(catalog, "old", "2", "otter too")
    catalog.do(Delete("i", "gone"))
    build(tmp_path / "a" / "i", target)
    while not catalog.do(FollowGraph("i")):
        commit(catalog, "later", "1", "otter later")
    assert catalog.do(ListCollections())["i"].has_graph
    assert not source.exists()
    expected = ["otter", "otter later", "otter too"]
    assert [text for text in texts(catalog, "words") if "otter" in text or "swan" in text] == expected
    after = crashed(catalog, tmp_path / "a")
    assert [text for text in texts(after, "words") if "otter" in text or "swan" in text] == expected
    counts = after.do(ListCollections())["i"]
    assert (counts.documents, counts.chunks, counts.has_graph) == (4, 3003, True)
    after.close()


def test_a_crash_amid_a_graph_leaves_the_collection_as_it_was(tmp_path: Path) -> None:
    catalog = grown(tmp_path / "a")
    source, target = map(Path, catalog.do(BeginGraph("i")))
    shutil.copytree(source, target)
    commit(catalog, "new", "1", "otter")
    after = crashed(catalog, tmp_path / "a")
    counts = after.do(ListCollections())["i"]
    assert (counts.documents, counts.chunks, counts.has_graph) == (2, 3001, False)
    with pytest.raises(Refusal) as caught:
        after.do(FollowGraph("i"))
    assert caught.value.answer.reason == "GRAPH_LOST"
    after.close()


def test_a_copy_that_is_overtaken_is_given_up(tmp_path: Path) -> None:
    follower = Follower()
    follower.note(object(), 150_000)
    follower.note(object(), 50_001)
    with pytest.raises(Refusal) as caught:
        follower.follow(tmp_path, None)
    assert caught.value.answer.reason == "GRAPH_OVERTAKEN"
