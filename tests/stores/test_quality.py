"""The quality gate: nDCG@10 on SciFact, with real chunks, and vectors of the real embedder kept between sessions."""

import asyncio
import hashlib
import statistics
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from loadtest import scifact
from services.kit.settings import load_settings, to_environment
from services.retriever.document import Chunk, EmbeddingModel, Filter, Fusion, Probe, Record, Spec, Vectored
from services.retriever.embedding import Embedders
from services.retriever.parsing.exchange import Question
from services.retriever.parsing.prepare import prepare
from services.retriever.ports import Store
from services.retriever.tokens import MiniLmTokens
from tests.rpc.retriever.real_process import running
from tests.stores.conftest import Opening

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant:UserWarning")
PLACE, MODES, CANDIDATES = "scifact", {"bm25": 0.670, "hybrid": 0.725}, 100
# Embedding the corpus takes minutes on two cores; it is done once, and kept with the other temporary files.
EMBED_TIMEOUT_S = 1500
# As many as the retriever ingests at a time by default.
DOCUMENTS_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Corpus:
    """Chunks by document, claims by number, and what is relevant to each."""

    documents: dict[str, tuple[Chunk, ...]]
    titles: dict[str, str]
    claims: dict[str, str]
    truth: dict[str, dict[str, int]]

    @property
    def texts(self) -> list[str]:
        """What is embedded, in order: every chunk, then every claim."""
        return [
            *(chunk.indexed_text for chunks in self.documents.values() for chunk in chunks),
            *(self.claims[number] for number in self.truth),
        ]


@pytest.fixture(scope="session")
def corpus(data_dir: Path) -> Corpus:
    """SciFact, read and cut as the retriever does it by default."""
    folder, settings, tokens = data_dir / "scifact", load_settings().retriever, MiniLmTokens()
    documents, titles = dict[str, tuple[Chunk, ...]](), dict[str, str]()
    for one in scifact.corpus(folder):
        said = (one.source, one.title, one.media_type, "en", "")
        question = Question(*said, settings.chunk_tokens, settings.chunk_overlap_tokens, one.text.encode())
        found = prepare(question, tokens, settings.max_text_chars)
        documents[one.document_id], titles[one.document_id] = found.chunks, found.title
    claims, truth = scifact.topics(folder), scifact.judgements(folder)
    return Corpus(documents, titles, claims, {number: truth[number] for number in claims if number in truth})


@asynccontextmanager
async def real_embedder(folder: Path) -> AsyncIterator[Embedders]:
    """MiniLM in a process of its own."""
    port = scifact.free_port()
    settings = load_settings(data_dir=folder, embedder={"port": port, "admin_port": scifact.free_port()})
    async with running("services.embedder", to_environment(settings)):
        await scifact.serving(f"127.0.0.1:{port}")
        async with Embedders([f"127.0.0.1:{port}"], settings.grpc, 120.0) as embedders:
            yield embedders


@pytest.fixture(scope="session")
def rows(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """A row for each text."""
    folder = tmp_path_factory.mktemp("embedder")
    return asyncio.run(asyncio.wait_for(embedded(corpus, folder), EMBED_TIMEOUT_S))


async def embedded(corpus: Corpus, folder: Path) -> np.ndarray:
    """Made by the real embedder, or kept from an earlier session with the same model and texts."""
    async with real_embedder(folder) as embedders:
        model = await embedders.model()
        key = hashlib.sha256("\0".join([model.fingerprint, *corpus.texts]).encode()).hexdigest()[:16]
        kept = Path(tempfile.gettempdir()) / f"weft-scifact-{key}.npy"
        if kept.exists():
            return np.load(kept)
        found = np.stack([np.frombuffer(row, "<f4") for row in await embedders.embed_passages(corpus.texts)])
    draft = kept.with_suffix(f".{port_of(folder)}.npy")
    np.save(draft, found)
    draft.replace(kept)
    return found


def port_of(folder: Path) -> str:
    """A name that no other session has."""
    return hashlib.sha256(str(folder).encode()).hexdigest()[:8]


async def fill(store: Store, corpus: Corpus, rows: np.ndarray) -> None:
    """Commits every document."""
    await store.create(PLACE, Spec(EmbeddingModel("minilm", "print", rows.shape[1]), "english", False))
    waiting = iter(documents(corpus, rows))

    async def commit() -> None:
        for record, chunks in waiting:
            await store.commit(PLACE, record, chunks)

    await asyncio.gather(*(commit() for _ in range(DOCUMENTS_AT_ONCE)))


def documents(corpus: Corpus, rows: np.ndarray) -> Iterator[tuple[Record, list[Vectored]]]:
    """Every document with its chunks and their vectors, which lie in the same order."""
    at = 0
    for document_id, chunks in corpus.documents.items():
        said = (document_id, f"scifact/{document_id}", corpus.titles[document_id], "text/plain")
        vectored = [Vectored(chunk, rows[at + n].tobytes()) for n, chunk in enumerate(chunks)]
        at += len(chunks)
        yield Record(*said, content_hash="", version="1", chunks=len(chunks), ingested_at_s=0.0, metadata={}), vectored


async def ndcg(store: Store, corpus: Corpus, queries: np.ndarray | None) -> float:
    """The mean over all claims; without query vectors by words alone."""
    scores = []
    for place, (number, relevance) in enumerate(corpus.truth.items()):
        near = b"" if queries is None else queries[place].tobytes()
        probe = Probe(corpus.claims[number], near, CANDIDATES, 50, Fusion.DBSF, Filter(), with_vectors=False)
        hits = await store.search(PLACE, probe)
        ranking = list(dict.fromkeys(hit.record.document_id for hit in hits))
        scores.append(scifact.ndcg_and_recall(ranking, relevance)[0])
    return statistics.mean(scores)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("opening", ["edge", "postgres"], indirect=True)
async def test_words_find_what_they_should(opening: Opening, corpus: Corpus) -> None:
    """Without an embedder: the vectors are noise, and no search asks for them."""
    rows = np.random.default_rng(1).standard_normal((len(corpus.texts), 8)).astype("<f4")
    store = await opening.open()
    await fill(store, corpus, rows)
    score = await ndcg(store, corpus, None)
    print(f"{opening.kind} bm25 nDCG@10 {score:.4f}")
    assert score >= MODES["bm25"]


# It starts an embedder, and takes minutes where nothing is kept yet: `make unit` leaves it out.
@pytest.mark.e2e
@pytest.mark.timeout(EMBED_TIMEOUT_S)
@pytest.mark.parametrize("opening", ["edge", "postgres"], indirect=True)
async def test_words_and_vectors_find_more(opening: Opening, corpus: Corpus, rows: np.ndarray) -> None:
    store = await opening.open()
    await fill(store, corpus, rows)
    score = await ndcg(store, corpus, rows[-len(corpus.truth) :])
    print(f"{opening.kind} hybrid nDCG@10 {score:.4f}")
    assert score >= MODES["hybrid"]
