"""Measures the stores by themselves: query latency and recall at 10, idle and during an ingest, memory, time to build.

Vectors are random around centres, so that near ones exist as they do among real ones; recall is against a full search
by numpy. Postgres is started here where no address is given; a Qdrant server has to be named.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import numpy as np
import psutil

from services.kit.clock import monotonic_s
from services.kit.settings.retriever import RetrieverSettings
from services.retriever.document import Chunk, EmbeddingModel, Filter, Fusion, Probe, Record, Spec, Vectored
from services.retriever.ports import Store
from services.retriever.stores.choice import store_of

_DIMENSIONS = 384
_CENTRES = 1_000
_SPREAD = 0.6
_CHUNKS_PER_DOCUMENT = 50
_DOCUMENTS_AT_ONCE = RetrieverSettings().max_documents_in_flight
_TOP_K = 10
_GRAPH_TIMEOUT_S = 1800.0
_WORDS = 20_000
_PLACE = "bench"


def vectors(count: int, seed: int) -> np.ndarray:
    """So many of length 1."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((_CENTRES, _DIMENSIONS)).astype("f4")
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    noise = rng.standard_normal((count, _DIMENSIONS)).astype("f4") / np.sqrt(_DIMENSIONS)
    found = centres[rng.integers(0, _CENTRES, count)] + _SPREAD * noise
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), "<f4")


def document(number: int, part: np.ndarray, rng: np.random.Generator) -> tuple[Record, list[Vectored]]:
    """One document with these vectors and texts of 40 words, rare and common ones."""
    record = Record(f"d{number:06d}", "bench", "Bench", "text/plain", "hash", "1", len(part), 0.0, {"n": str(number)})
    chunks = []
    for place, row in enumerate(part):
        words = np.minimum((rng.pareto(1.0, 40) * 20).astype(int), _WORDS)
        text = " ".join(f"w{word}x" for word in words)
        chunks.append(Vectored(Chunk(f"{place:05d}", text, "", (), 0, 0, len(text)), row.tobytes()))
    return record, chunks


async def fill(store: Store, rows: np.ndarray, first: int = 0) -> None:
    """Commits the vectors as documents, as many at a time as the retriever does by default."""
    rng, places = np.random.default_rng(first), iter(range(0, len(rows), _CHUNKS_PER_DOCUMENT))

    async def commit() -> None:
        for at in places:
            record, chunks = document(first + at // _CHUNKS_PER_DOCUMENT, rows[at : at + _CHUNKS_PER_DOCUMENT], rng)
            await store.commit(_PLACE, record, chunks)

    await asyncio.gather(*(commit() for _ in range(_DOCUMENTS_AT_ONCE)))


async def with_graph(store: Store) -> None:
    """Waits until the graph is there, which is begun with the last vector."""
    async with asyncio.timeout(_GRAPH_TIMEOUT_S):
        while not (await store.collections())[_PLACE].has_graph:  # noqa: ASYNC110 - it only tells when asked
            await asyncio.sleep(0.5)


async def measure(store: Store, queries: np.ndarray, truth: list[set[str]], text: str) -> str:
    """Latencies of one query after the other, and the recall of the dense ones."""
    times_ms, hit = [], 0
    for query, nearest in zip(queries, truth, strict=True):
        probe = Probe(text, query.tobytes(), _TOP_K, _TOP_K, Fusion.DBSF, Filter(), with_vectors=False)
        started_s = time.perf_counter()
        hits = await store.search(_PLACE, probe)
        times_ms.append((time.perf_counter() - started_s) * 1e3)
        hit += len({f"{one.record.document_id}/{one.chunk.chunk_id}" for one in hits} & nearest)
    p99 = statistics.quantiles(times_ms, n=100)[98]
    recall = f"  recall@10 {hit / len(queries) / _TOP_K:.3f}" if truth[0] and not text else ""
    return f"p50 {statistics.median(times_ms):6.2f} ms  p99 {p99:7.2f} ms{recall}"


def memory_mb() -> float:
    """Unique memory of this program's children: the embedded store's processes."""
    total = 0
    for process in psutil.Process().children(recursive=True):
        try:
            total += process.memory_full_info().uss
        except psutil.Error:
            continue
    return total / 1e6


@asynccontextmanager
async def opened(name: str, options: argparse.Namespace) -> AsyncIterator[Store]:
    """A store with nothing in it."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        values: dict[str, object] = {"store": name, "hnsw_min_chunks": options.vectors}
        if name == "postgres":
            url = options.postgres_url
            if not url:
                from tests import postgres_server

                url = stack.enter_context(postgres_server.running(durable=True))
            values["postgres_url"] = url
        if name == "qdrant":
            values["qdrant_url"] = options.qdrant_url
        store = store_of(folder, RetrieverSettings.model_validate(values), monotonic_s, lambda: None)
        try:
            await store.start()
            yield store
        finally:
            await store.close()


async def run(name: str, options: argparse.Namespace) -> None:
    """One store, from empty to the last figure."""
    rows, queries = vectors(options.vectors, 1), vectors(options.queries, 2)
    keys = [f"d{n // _CHUNKS_PER_DOCUMENT:06d}/{n % _CHUNKS_PER_DOCUMENT:05d}" for n in range(len(rows))]
    best = np.argsort(-(queries @ rows.T), axis=1)[:, :_TOP_K]
    truth = [{keys[place] for place in places} for places in best]
    async with opened(name, options) as store:
        await store.create(_PLACE, Spec(EmbeddingModel("bench", "print", _DIMENSIONS), "english", options.quantised))
        started_s = time.monotonic()
        await fill(store, rows)
        filled_s = time.monotonic() - started_s
        await with_graph(store)
        built_s = time.monotonic() - started_s
        # A server is nobody's child, and its memory not this program's to tell.
        memory = f"; {memory_mb():,.0f} MB" if name == "qdrant-edge" else ""
        say(
            f"{name}: {len(rows):,} vectors in {filled_s:.1f} s ({len(rows) / filled_s:,.0f}/s), with the graph after "
            f"{built_s:.1f} s{memory}"
        )
        await measure(store, queries, truth, "")
        words = "w1x w40x w900x w7000x"
        for number in range(1, options.runs + 1):
            say(f"{name} run {number} idle    dense  {await measure(store, queries, truth, '')}")
            say(f"{name} run {number} idle    hybrid {await measure(store, queries, truth, words)}")
        more = vectors(options.ingest, 3)
        for number in range(1, options.runs + 1):
            ingesting = asyncio.create_task(fill(store, more, first=1_000_000 * number))
            # What comes meanwhile may be nearer than what was there: recall would say nothing.
            say(f"{name} run {number} ingests dense  {await measure(store, queries, [set()] * len(queries), '')}")
            left = "still under way" if not ingesting.done() else "over before the last query"
            await ingesting
            say(f"{name} run {number} (the ingest was {left})")


def say(line: str) -> None:
    """One line of the report."""
    print(line, flush=True)  # noqa: T201 - the report is this program's output


async def main() -> None:
    """Runs each store that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stores", nargs="+", default=["qdrant-edge", "postgres"])
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--ingest", type=int, default=10_000, help="vectors that come while queries are measured")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--quantised", action="store_true")
    parser.add_argument("--postgres-url", default="")
    parser.add_argument("--qdrant-url", default="")
    options = parser.parse_args()
    for name in options.stores:
        await run(name, options)


if __name__ == "__main__":
    asyncio.run(main())
