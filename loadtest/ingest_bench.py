"""Measures ingest: documents/s of a folder of real documents, sent over a stream or fetched by a job, and where the
time goes. Starts embedder and retriever as processes of their own; the folder is made of TEST_DATA_DIR's data.
"""

import argparse
import asyncio
import json
import os
import re
import shutil
import statistics
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from loadtest.machine import free_port
from loadtest.scifact import corpus, say, serving
from services.kit.channels import dial
from services.kit.settings import Settings, load_settings, to_environment
from weft.retriever.v1 import retriever_pb2 as pb
from weft.retriever.v1.retriever_pb2_grpc import RetrieverServiceStub

_ROOT = Path(__file__).resolve().parent.parent
_DATA = Path(os.environ.get("TEST_DATA_DIR", _ROOT.parent / "shared" / "data"))
_STAGE = re.compile(r'^weft_retriever_ingest_seconds_(sum|count)\{stage="(\w+)"\} (\S+)$', re.MULTILINE)
_CHUNKS = re.compile(r"^weft_retriever_chunks_total (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Mesh:
    """The two services."""

    settings: Settings
    embedder: psutil.Process
    retriever: psutil.Process

    def cpu_s(self) -> dict[str, float]:
        """CPU so far by part; the retriever's own, its store's and its parsers'."""
        found = {"embedder": _cpu_s(self.embedder), "retriever": _cpu_s(self.retriever)}
        for child in self.retriever.children():
            part = "parsers" if "parsing" in " ".join(child.cmdline()) else "store"
            found[part] = found.get(part, 0.0) + _cpu_s(child)
        return found

    def stages(self) -> dict[str, float]:
        """Seconds in each stage, over all documents so far, and chunks."""
        url = f"http://127.0.0.1:{self.settings.retriever.admin_port}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            text = answer.read().decode()
        found = {stage: float(value) for kind, stage, value in _STAGE.findall(text) if kind == "sum"}
        chunks = _CHUNKS.search(text)
        return found | {"chunks": float(chunks.group(1)) if chunks else 0.0}


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def make_folder(folder: Path, count: int) -> list[Path]:
    """Fills a new folder with `count` documents: nine abstracts, by turns in five formats, to each PDF or DOCX."""
    folder.mkdir()
    abstracts = corpus(_DATA / "scifact")
    packed = sorted(path for kind in ("pdf", "docx") for path in (_DATA / "documents" / kind).iterdir())
    for n in range(count):
        if n % 10 == 9:
            path = packed[n // 10 % len(packed)]
            shutil.copyfile(path, folder / f"{n:05}{path.suffix}")
            continue
        one = abstracts[n % len(abstracts)]
        name, body = _formatted(n % 5, one.title, one.text)
        (folder / f"{n:05}.{name}").write_text(body)
    return sorted(folder.iterdir())


def _formatted(kind: int, title: str, text: str) -> tuple[str, str]:
    match kind:
        case 0:
            return "txt", f"{title}\n\n{text}\n"
        case 1:
            return "md", f"# {title}\n\n{text}\n"
        case 2:
            return "html", f"<html><title>{title}</title><body><h1>{title}</h1><p>{text}</p></body></html>"
        case 3:
            return "json", json.dumps({"title": title, "abstract": text})
    return "csv", f'title,abstract\n"{title.replace(chr(34), "")}","{text.replace(chr(34), "")}"\n'


@asynccontextmanager
async def mesh(folder: Path, roots: Path) -> AsyncIterator[Mesh]:
    """Embedder and retriever as processes, ready."""
    embedder = free_port()
    own = {"port": free_port(), "admin_port": free_port(), "embedder": f"127.0.0.1:{embedder}"}
    settings = load_settings(
        data_dir=folder,
        log_level="warning",
        # Each run sends the same texts, which must be embedded each time.
        embedder={"port": embedder, "admin_port": free_port(), "cache_bytes": 0},
        retriever=own | {"ingest": {"roots": [str(roots)]}},
    )
    environment = {**os.environ, **to_environment(settings), "WEFT_SUPERVISED": str(os.getpid())}
    async with AsyncExitStack() as stack:
        started = []
        for module, port in (("services.embedder", embedder), ("services.retriever", own["port"])):
            process = await asyncio.create_subprocess_exec(sys.executable, "-m", module, env=environment, cwd=_ROOT)
            stack.push_async_callback(process.wait)
            stack.callback(process.terminate)
            await serving(f"127.0.0.1:{port}")
            started.append(psutil.Process(process.pid))
        yield Mesh(settings, *started)


async def by_stream(stub: Any, files: list[Path], index: str) -> Counter[str]:
    """Sends every file; statuses by name."""

    async def requests() -> AsyncIterator[pb.IngestDocumentsRequest]:
        for path in files:
            content = await asyncio.to_thread(path.read_bytes)
            yield pb.IngestDocumentsRequest(index=index, document=pb.Document(source=str(path), content=content))

    found: Counter[str] = Counter()
    async for answer in stub.IngestDocuments(requests()):
        found[pb.IngestDocumentsResponse.Status.Name(answer.status).removeprefix("STATUS_").lower()] += 1
    return found


async def by_job(stub: Any, files: list[Path], index: str) -> Counter[str]:
    """Has the retriever fetch the folder; statuses by name."""
    request = pb.StartIngestRequest(index=index, uris=[files[0].parent.as_uri()])
    job = (await stub.StartIngest(request)).job
    async for answer in stub.WatchIngest(pb.WatchIngestRequest(job_id=job.job_id)):
        job = answer.job
    names = ("indexed", "replaced", "unchanged", "failed")
    return Counter({name: getattr(job, name) for name in names if getattr(job, name)})


async def measure(running: Mesh, stub: Any, name: str, files: list[Path], index: str) -> float:
    """One run; prints it and returns its documents/s."""
    cpu, stages = running.cpu_s(), running.stages()
    started_s = time.monotonic()
    found = await (by_job if name == "job" else by_stream)(stub, files, index)
    elapsed_s = time.monotonic() - started_s
    spent = {part: value - cpu.get(part, 0.0) for part, value in running.cpu_s().items()}
    stage_s = {part: value - stages.get(part, 0.0) for part, value in running.stages().items()}
    chunks = stage_s.pop("chunks")
    rate = len(files) / elapsed_s
    parts = ", ".join(f"{part} {value * 1e3 / len(files):.1f}" for part, value in spent.items())
    waits = ", ".join(f"{part} {value * 1e3 / len(files):.1f}" for part, value in stage_s.items())
    say(
        f"{name:7s} {rate:6.1f} documents/s, {chunks / elapsed_s:6.1f} chunks/s in {elapsed_s:.1f} s; {dict(found)}\n"
        f"        CPU ms a document: {parts}; time in each stage, ms a document: {waits}"
    )
    return rate


async def main() -> None:
    """Runs everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=1000, help="documents in the folder")
    parser.add_argument("--runs", type=int, default=3, help="runs of each way, each into an index of its own")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder, data = Path(place, "documents"), Path(place, "data")
        files = make_folder(folder, options.documents)
        size_bytes = sum(map(os.path.getsize, files))
        say(f"{len(files)} documents, {size_bytes / 1e6:.1f} MB, on {os.cpu_count()} cores")
        async with mesh(data, folder) as running:
            address = f"127.0.0.1:{running.settings.retriever.port}"
            async with dial(address, running.settings.grpc) as channel:
                stub = RetrieverServiceStub(channel)
                for name in ("stream", "job"):
                    rates = [await measure(running, stub, name, files, f"{name}-{run}") for run in range(options.runs)]
                    say(f"{name:7s} median {statistics.median(rates):.1f} documents/s of {len(rates)} runs")
                    await measure(running, stub, name, files, f"{name}-0")


if __name__ == "__main__":
    asyncio.run(main())
