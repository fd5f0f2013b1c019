"""A worker with the real vLLM on a tiny model, with adapters and a small cache, started once."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.engines.client import EngineLink, linked
from tests.engines.missing import Missing, environment
from tests.engines.process import EngineWorker, Launch
from tests.fakes.tiny_hf import write_tiny_hf
from tests.vllm.lora import write_lora

BLOCKS = 40
BLOCK_TOKENS = 128
ADAPTERS = ("pirate", "poet")


@pytest.fixture(scope="session")
def python() -> Path:
    """The interpreter of the environment that has vLLM."""
    try:
        return environment(".venv-vllm", "vLLM")
    except Missing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def started(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineWorker]:
    folder = tmp_path_factory.mktemp("vllm")
    adapters = [f"{name}={write_lora(folder / name, seed)}" for seed, name in enumerate(ADAPTERS, 1)]
    settings = {
        "engine": "vllm",
        "worker_id": "vllm",
        "max_running": 16,
        "context_tokens": 2048,
        "vllm": {
            "model": str(write_tiny_hf(folder / "tiny")),
            "dtype": "float32",
            "enforce_eager": True,
            "cpu_kv_cache_gib": 1,
            "adapters": adapters,
            "extra": json.dumps({"num_gpu_blocks_override": BLOCKS, "block_size": BLOCK_TOKENS}),
        },
    }
    worker = EngineWorker(Launch(python, settings), folder)
    yield worker
    worker.close()


@pytest.fixture
def worker(started: EngineWorker) -> EngineWorker:
    """Serves, whatever the case before this one did to it."""
    started.ensure()
    return started


@pytest.fixture
async def link(worker: EngineWorker) -> AsyncIterator[EngineLink]:
    """Of this case alone."""
    async with linked(worker.address) as found:
        await found.idle()
        yield found
