"""Measures the retriever and embedder on SciFact: nDCG@10 and recall@10 by mode, ingest rate, search latency.

Starts both services as processes with data in a folder of its own, or uses a retriever that is given by its address.
"""

import argparse
import ast
import asyncio
import csv
import math
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from grpc_health.v1 import health_pb2, health_pb2_grpc

from loadtest.machine import free_port
from services.kit.channels import dial
from services.kit.settings import load_settings, to_environment
from weft.retriever.v1 import retriever_pb2 as pb
from weft.retriever.v1.retriever_pb2_grpc import RetrieverServiceStub

_ROOT = Path(__file__).resolve().parent.parent
_MODES = {
    "bm25": pb.SEARCH_MODE_BM25,
    "dense": pb.SEARCH_MODE_DENSE,
    "hybrid": pb.SEARCH_MODE_HYBRID,
}
_BETWEEN_SENTENCES = re.compile(r"(['\"])\n (['\"])")
# Several chunks of one abstract may be found; with this many there are ten abstracts among them.
_TOP_K = 50


def corpus(folder: Path) -> list[pb.Document]:
    """Every abstract as a document."""
    with (folder / "corpus_train.csv").open(newline="") as file:
        return [
            pb.Document(
                document_id=row["doc_id"],
                source=f"scifact/{row['doc_id']}",
                title=row["title"],
                media_type="text/plain",
                text=" ".join(ast.literal_eval(_BETWEEN_SENTENCES.sub(r"\1, \2", row["abstract"]))),
            )
            for row in csv.DictReader(file)
        ]


def topics(folder: Path) -> dict[str, str]:
    """Claims by number."""
    lines = (folder / "topics.tsv").read_text().splitlines()
    return dict(line.split("\t", 1) for line in lines)


def judgements(folder: Path) -> dict[str, dict[str, int]]:
    """Relevance by claim and document."""
    found: dict[str, dict[str, int]] = {}
    for line in (folder / "qrels.txt").read_text().splitlines():
        claim, _, document_id, relevance = line.split()
        found.setdefault(claim, {})[document_id] = int(relevance)
    return found


def ndcg_and_recall(ranking: list[str], relevance: Mapping[str, int]) -> tuple[float, float]:
    """Both at 10."""
    gain = sum(relevance.get(key, 0) / math.log2(rank + 1) for rank, key in enumerate(ranking[:10], start=1))
    best = sorted(relevance.values(), reverse=True)[:10]
    ideal = sum(value / math.log2(rank + 1) for rank, value in enumerate(best, start=1))
    return gain / ideal, len(set(ranking[:10]) & relevance.keys()) / len(relevance)


@asynccontextmanager
async def mesh(folder: Path) -> AsyncIterator[str]:
    """Embedder and retriever as processes; the retriever's address."""
    embedder, retriever = free_port(), free_port()
    settings = load_settings(
        data_dir=folder,
        log_level="warning",
        embedder={"port": embedder, "admin_port": free_port()},
        retriever={"port": retriever, "admin_port": free_port(), "embedder": f"127.0.0.1:{embedder}"},
    )
    environment = {**os.environ, **to_environment(settings), "WEFT_SUPERVISED": str(os.getpid())}
    async with AsyncExitStack() as stack:
        for module, port in (("services.embedder", embedder), ("services.retriever", retriever)):
            process = await asyncio.create_subprocess_exec(sys.executable, "-m", module, env=environment, cwd=_ROOT)
            stack.push_async_callback(process.wait)
            stack.callback(process.terminate)
            await serving(f"127.0.0.1:{port}")
        yield f"127.0.0.1:{retriever}"


async def serving(address: str) -> None:
    """Waits until a service is ready."""
    async with asyncio.timeout(300), dial(address, load_settings().grpc) as channel:
        await channel.channel_ready()
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())  # type: ignore[attr-defined] # its stubs know only the blocking kind
        async for answer in watch:
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                break
        watch.cancel()


async def ingest(stub: Any, documents: list[pb.Document]) -> None:
    """Ingests everything and prints the rate."""

    async def requests() -> AsyncIterator[pb.IngestDocumentsRequest]:
        for document in documents:
            yield pb.IngestDocumentsRequest(index="scifact", document=document)

    started_s, chunks, statuses = time.monotonic(), 0, dict[int, int]()
    async for response in stub.IngestDocuments(requests()):
        chunks += response.chunks
        statuses[response.status] = statuses.get(response.status, 0) + 1
        if response.failure.reason:
            say(f"{response.document_id}: {response.failure.message}")
    elapsed_s = time.monotonic() - started_s
    size_bytes = sum(len(document.text.encode()) for document in documents)
    counts = {pb.IngestDocumentsResponse.Status.Name(status): count for status, count in statuses.items()}
    say(
        f"ingest: {len(documents)} documents, {chunks} chunks, {size_bytes / 1e6:.1f} MB in {elapsed_s:.1f} s = "
        f"{len(documents) / elapsed_s:.1f} documents/s, {size_bytes / 1e6 / elapsed_s:.3f} MB/s; {counts}"
    )


async def search(stub: Any, name: str, claims: Mapping[str, str], truth: Mapping[str, dict[str, int]]) -> None:
    """Searches each claim, one after the other, and prints quality and latency."""
    scores, latencies_ms, elapsed_ms = [], [], []
    for number, claim in claims.items():
        request = pb.SearchRequest(index="scifact", query=claim, top_k=_TOP_K, mode=_MODES[name])
        started_s = time.monotonic()
        response = await stub.Search(request)
        latencies_ms.append((time.monotonic() - started_s) * 1e3)
        elapsed_ms.append(response.elapsed.ToNanoseconds() / 1e6)
        ranking = list(dict.fromkeys(passage.document_id for passage in response.passages))
        if number in truth:
            scores.append(ndcg_and_recall(ranking, truth[number]))
    ndcg, recall = (statistics.mean(part) for part in zip(*scores, strict=True))
    say(
        f"{name:7s} nDCG@10 {ndcg:.4f}  recall@10 {recall:.4f}  client p50 {statistics.median(latencies_ms):.2f} ms "
        f"p99 {statistics.quantiles(latencies_ms, n=100)[98]:.2f} ms, within the retriever p50 "
        f"{statistics.median(elapsed_ms):.2f} ms  ({len(scores)} claims)"
    )


def say(line: str) -> None:
    """One line of the report."""
    print(line, flush=True)  # noqa: T201 - the report is this program's output


async def main() -> None:
    """Runs everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=_ROOT.parent / "shared" / "data" / "scifact")
    parser.add_argument("--folder", type=Path, help="where indexes are kept; a temporary folder by default")
    parser.add_argument("--retriever", default="", help="address of a running retriever")
    parser.add_argument("--documents", type=int, default=0, help="ingest only this many; 0 means all")
    options = parser.parse_args()
    documents = corpus(options.data)[: options.documents or None]
    async with AsyncExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        address = options.retriever or await stack.enter_async_context(mesh(folder))
        stub = RetrieverServiceStub(await stack.enter_async_context(dial(address, load_settings().grpc)))
        await ingest(stub, documents)
        for name in _MODES:
            await search(stub, name, topics(options.data), judgements(options.data))


if __name__ == "__main__":
    asyncio.run(main())
