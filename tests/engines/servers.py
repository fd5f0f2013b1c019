"""The model servers that engines talk to, each a real process: llama.cpp's own, `vllm serve`, and Triton."""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.engines.missing import environment
from tests.fakes.tiny_gguf import write_tiny_gguf
from tests.fakes.tiny_hf import write_tiny_hf
from tests.fakes.triton.server import TritonServer, write_repository
from tests.rpc.worker.harness import free_port
from tests.vllm.lora import RANK, write_lora

VLLM_START_LIMIT_S = 600.0
END_LIMIT_S = 20.0
ASK_EVERY_S = 0.2
ADAPTERS = ("formal", "terse")
# Runs a program that dies with the tests, whatever ends them.
_LEASHED = (
    "import os, sys; from services.kit.leash import die_with_parent; die_with_parent(); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)


@contextmanager
def llama_server(folder: Path) -> Iterator[str]:
    """Its URL."""
    model = write_tiny_gguf(folder / "tiny.gguf")
    with (folder / "llama.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.llama_server", str(model)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=ROOT,
        )
    with _ended(process):
        assert process.stdout is not None
        port = process.stdout.readline().decode().strip()
        if not port:
            pytest.fail("llama.cpp does not serve:\n" + (folder / "llama.log").read_text(errors="replace")[-4000:])
        yield f"http://127.0.0.1:{port}"


@contextmanager
def vllm_server(
    folder: Path, *, slots: int, context_tokens: int, adapters: bool = True, threads: int = 0
) -> Iterator[str]:
    """Its URL; raises Missing where its environment is. `threads` compute, 0 leaves their number to vLLM."""
    python = environment(".venv-vllm", "vllm serve")
    model, port, log = write_tiny_hf(folder / "tiny"), free_port(), folder / "vllm.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-c", _LEASHED, str(python), "-m", "vllm.entrypoints.openai.api_server"),
                *("--model", str(model), "--served-model-name", "tiny"),
                *("--host", "127.0.0.1", "--port", str(port)),
                *("--dtype", "float32", "--max-model-len", str(context_tokens), "--max-num-seqs", str(slots)),
                "--enforce-eager",
                *(_lora(folder) if adapters else ()),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=folder,
            env={
                **os.environ,
                "VLLM_CPU_KVCACHE_SPACE": "1",
                "VLLM_NO_USAGE_STATS": "1",
                "VLLM_WORKER_MULTIPROC_METHOD": "fork",
                "HF_HUB_OFFLINE": "1",
                # Two CPUs are not enough to be bound to some of them.
                "VLLM_CPU_OMP_THREADS_BIND": "nobind",
                **({"OMP_NUM_THREADS": str(threads)} if threads else {}),
            },
        )
    with _ended(process):
        url = f"http://127.0.0.1:{port}"
        _wait_healthy(process, f"{url}/health", log)
        yield url


def _lora(folder: Path) -> list[str]:
    # vLLM's CPU kernels read the last slot for requests without an adapter, so that one stays empty.
    options = ["--enable-lora", "--max-lora-rank", str(RANK), "--max-loras", str(len(ADAPTERS) + 1), "--lora-modules"]
    return options + [f"{name}={write_lora(folder / name, seed)}" for seed, name in enumerate(ADAPTERS, 1)]


@contextmanager
def triton_server(folder: Path, *, context_tokens: int) -> Iterator[TritonServer]:
    """Ready, over llama.cpp; raises Missing where its environment is."""
    environment(".venv-triton", "Triton")
    with ExitStack() as stack:
        model, *others = (write_tiny_gguf(folder / f"tiny-{seed}.gguf", seed) for seed in range(3))
        # Other weights altogether, which the model answers with where a request names an adapter.
        adapters = dict(zip(ADAPTERS, others, strict=True))
        repository = write_repository(folder / "models", model, context_tokens=context_tokens, adapters=adapters)
        server = TritonServer(repository, folder / "triton.log")
        stack.callback(server.close)
        server.start()
        server.wait_ready()
        yield server


def _wait_healthy(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    """A server that is no child of a loop says nothing of itself: it can only be asked again and again."""
    until_s = time.monotonic() + VLLM_START_LIMIT_S
    while time.monotonic() < until_s and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5.0):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(ASK_EVERY_S)
    pytest.fail(f"{url} does not answer:\n" + log.read_text(errors="replace")[-4000:])


@contextmanager
def _ended(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Ends the process with the block, in order or at once."""
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(END_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
