"""The store's own promises, without its process: what a crash at any point leaves, and what searches may see."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.retriever.core.fusion import rrf
from services.retriever.document import Chunk, EmbeddingModel, Filter, Mode, Passage, Query, Record
from services.retriever.stores.catalog import Catalog
from services.retriever.stores.operations import (
    Abandon,
    Add,
    Commit,
    DeleteDocument,
    DeleteIndex,
    FindRecord,
    Flush,
    ListIndexes,
    Search,
    Vectored,
)
from services.retriever.stores.refusal import Refusal
from services.retriever.stores.shard import Bm25Settings, SearchSettings

MODEL = EmbeddingModel("model", "print", 4)
NOTHING = Filter()


def opened(folder: Path, **limits: int) -> Catalog:
    bm25 = Bm25Settings("english", 1.2, 0.75, 100.0)
    settings = {"max_indexes": 4, "hnsw_min_chunks": 10_000} | limits
    return Catalog(folder, bm25, SearchSettings(10, rrf), settings["max_indexes"], settings["hnsw_min_chunks"])


def record(document_id: str, version: str, chunks: int) -> Record:
    return Record(document_id, f"{document_id}.md", "Title", "text/markdown", "hash", version, chunks, 1.5, {"k": "v"})


def chunks(*texts: str, first: int = 0) -> tuple[Vectored, ...]:
    vector = np.asarray([1, 0, 0, 0], "<f4").tobytes()
    return tuple(
        Vectored(Chunk(f"{n:05d}", text, "", (), 0, 0, len(text)), vector) for n, text in enumerate(texts, first)
    )


def commit(catalog: Catalog, document_id: str, version: str, *texts: str) -> bool:
    replaced: bool = catalog.do(Commit("i", MODEL, record(document_id, version, len(texts)), chunks(*texts)))
    return replaced


def texts(catalog: Catalog, mode: Mode = Mode.DENSE) -> list[str]:
    query = Query("i", "heron swan otter", 10, mode, NOTHING)
    vector = np.asarray([1, 0, 0, 0], "<f4").tobytes() if mode is not Mode.BM25 else b""
    found: list[Passage] = catalog.do(Search(query, vector, MODEL.fingerprint))
    return sorted(passage.chunk.text for passage in found)


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
    (info,) = after.do(ListIndexes())
    assert (info.name, info.documents, info.chunks, info.model) == ("i", 1, 2, MODEL)
    after.close()


@pytest.mark.parametrize("mode", list(Mode))
def test_what_is_not_committed_is_not_found(tmp_path: Path, mode: Mode) -> None:
    catalog = opened(tmp_path / "a")
    commit(catalog, "x", "1", "heron")
    catalog.do(Add("i", MODEL, record("x", "2", 2), chunks("swan")))
    catalog.do(Add("i", MODEL, record("y", "1", 2), chunks("otter")))
    assert texts(catalog, mode) == ["heron"]
    catalog.do(Commit("i", MODEL, record("x", "2", 2), chunks("swan too", first=1)))
    assert texts(catalog, mode) == ["swan", "swan too"]
    catalog.close()


def test_a_crash_before_the_commit_leaves_the_old_version(tmp_path: Path) -> None:
    catalog = opened(tmp_path / "a")
    commit(catalog, "x", "1", "heron")
    catalog.do(Add("i", MODEL, record("x", "2", 2), chunks("swan")))
    catalog.do(Add("i", MODEL, record("y", "1", 2), chunks("otter")))
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
        patched.setattr("services.retriever.stores.shard.Shard._drop_other_versions", crash)
        with pytest.raises(RuntimeError):
            commit(catalog, "x", "2", "swan")
    after = crashed(catalog, tmp_path / "a")
    assert texts(after) == ["swan"]
    assert after.do(ListIndexes())[0].chunks == 1
    after.close()


def test_a_commit_whose_beginning_was_lost_is_refused(tmp_path: Path) -> None:
    catalog = opened(tmp_path / "a")
    catalog.do(Add("i", MODEL, record("x", "1", 2), chunks("heron")))
    after = crashed(catalog, tmp_path / "a")
    with pytest.raises(Refusal) as caught:
        after.do(Commit("i", MODEL, record("x", "1", 2), chunks("swan", first=1)))
    assert caught.value.answer.reason == "STORE_RESTARTED"
    assert texts(after) == []
    after.close()


def test_abandoned_chunks_are_gone_and_the_old_version_stays(tmp_path: Path) -> None:
    catalog = opened(tmp_path / "a")
    commit(catalog, "x", "1", "heron")
    catalog.do(Add("i", MODEL, record("x", "2", 2), chunks("swan")))
    catalog.do(Abandon("i", "x"))
    assert texts(catalog) == ["heron"]
    assert commit(catalog, "x", "3", "otter") is True
    assert texts(catalog) == ["otter"]
    catalog.close()


def test_a_second_draft_takes_the_place_of_the_first(tmp_path: Path) -> None:
    catalog = opened(tmp_path / "a")
    catalog.do(Add("i", MODEL, record("x", "1", 2), chunks("heron")))
    catalog.do(Add("i", MODEL, record("x", "2", 2), chunks("swan")))
    catalog.do(Commit("i", MODEL, record("x", "2", 2), chunks("swan too", first=1)))
    assert texts(catalog) == ["swan", "swan too"]
    catalog.close()


def test_a_document_is_deleted_while_its_next_version_is_written(tmp_path: Path) -> None:
    catalog = opened(tmp_path / "a")
    commit(catalog, "x", "1", "heron")
    catalog.do(Add("i", MODEL, record("x", "2", 2), chunks("swan")))
    assert catalog.do(DeleteDocument("i", "x")) == 1
    assert texts(catalog) == []
    assert catalog.do(Commit("i", MODEL, record("x", "2", 2), chunks("swan too", first=1))) is False
    assert texts(catalog) == ["swan", "swan too"]
    catalog.close()


def test_a_deleted_document_stays_deleted_after_a_crash(tmp_path: Path) -> None:
    catalog = opened(tmp_path / "a")
    commit(catalog, "x", "1", "heron")
    commit(catalog, "y", "1", "swan")
    catalog.do(DeleteDocument("i", "x"))
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
    for operation in (FindRecord("damaged", "x"), Commit("damaged", MODEL, record("x", "1", 0), ())):
        with pytest.raises(Refusal) as caught:
            catalog.do(operation)
        assert caught.value.answer.reason == "INDEX_DAMAGED"
    assert catalog.do(DeleteIndex("damaged")) == 0
    assert not damaged.exists()
    catalog.close()


@pytest.mark.parametrize("left", [".new-i", ".deleted-i"])
def test_what_a_crash_left_of_an_index_is_cleared_away(tmp_path: Path, left: str) -> None:
    (tmp_path / "a" / left / "shard").mkdir(parents=True)
    catalog = opened(tmp_path / "a")
    assert catalog.do(ListIndexes()) == []
    assert not (tmp_path / "a" / left).exists()
    commit(catalog, "x", "1", "heron")
    assert texts(catalog) == ["heron"]
    catalog.close()


def test_vectors_of_another_model_are_refused(tmp_path: Path) -> None:
    catalog = opened(tmp_path / "a")
    commit(catalog, "x", "1", "heron")
    other = replace(MODEL, fingerprint="other")
    with pytest.raises(Refusal) as caught:
        catalog.do(Commit("i", other, record("y", "1", 1), chunks("swan")))
    assert caught.value.answer.reason == "MODEL_CHANGED"
    catalog.close()


def test_a_large_index_gets_its_graph_when_it_is_opened(tmp_path: Path) -> None:
    catalog = opened(tmp_path / "a")
    many = tuple(
        replace(item, vector=np.random.default_rng(n).standard_normal(4).astype("<f4").tobytes())
        for n, item in enumerate(chunks(*(f"heron {n}" for n in range(3000))))
    )
    catalog.do(Commit("i", MODEL, record("x", "1", len(many)), many))
    before = texts(catalog)
    catalog.close()
    catalog = opened(tmp_path / "a", hnsw_min_chunks=100)
    assert texts(catalog) == before
    assert catalog.do(ListIndexes())[0].chunks == 3000
    catalog.close()
