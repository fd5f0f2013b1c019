"""A Triton server for all cases here, another that they may stop, and the engine on either."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from services.kit.settings.engines.triton import TritonSettings
from services.kit.settings.worker import WorkerSettings
from services.worker.engines.triton.engine import TritonEngine
from services.worker.engines.triton.load import open_triton
from tests.fakes.tiny_gguf import write_tiny_gguf
from tests.fakes.tiny_hf import write_tiny_hf
from tests.fakes.triton.server import TritonServer, write_repository
from tests.unit.worker.collector import Collector

DELAY_S = 0.02
"""Between two tokens of the slow model: an answer of its 512 tokens takes ten seconds."""
Opener = Callable[..., AbstractAsyncContextManager[tuple[TritonEngine, Collector]]]


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model's tokenizer and chat template."""
    return write_tiny_hf(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="session")
def triton(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """Models: vllm_model; slow, which waits between tokens; bare, which gives text alone; and one that cannot load."""
    folder = tmp_path_factory.mktemp("triton")
    other = write_tiny_gguf(folder / "other.gguf", seed=1)
    repository = folder / "models"
    write_repository(repository, tiny_gguf, adapters={"other": other})
    write_repository(repository, tiny_gguf, name="slow", delay_s=DELAY_S)
    write_repository(repository, tiny_gguf, name="bare", without=("finish_reason", "return_", "num_", "logprob"))
    write_repository(repository, tiny_gguf, name="once", decoupled=False)
    write_repository(repository, folder / "none.gguf", name="damaged")
    server = TritonServer(repository, folder / "triton.log")
    try:
        server.start()
        for model in ("vllm_model", "slow", "bare", "once"):
            server.wait_ready(model)
        yield server
    finally:
        server.close()


@pytest.fixture
def own_triton(tiny_gguf: Path, tmp_path: Path) -> Iterator[TritonServer]:
    """Not started; the case may start and kill it."""
    server = TritonServer(write_repository(tmp_path / "models", tiny_gguf, delay_s=DELAY_S), tmp_path / "triton.log")
    yield server
    server.close()


@asynccontextmanager
async def opened(server: TritonServer, **settings: object) -> AsyncIterator[tuple[TritonEngine, Collector]]:
    """The engine; settings of the worker by their names, all others are the engine's."""
    own = {name: settings.pop(name) for name in ("max_running", "context_tokens", "model_name") if name in settings}
    sink = Collector()
    mine = TritonSettings(**{"url": server.url, "model": "vllm_model", **settings})  # type: ignore[arg-type]
    async with open_triton(WorkerSettings(engine="triton", triton=mine, **own), sink) as engine:  # type: ignore[arg-type]
        yield engine, sink


@pytest.fixture
def opener(triton: TritonServer) -> Opener:
    """The engine on the shared server."""

    def opener(**settings: object) -> AbstractAsyncContextManager[tuple[TritonEngine, Collector]]:
        return opened(triton, **settings)

    return opener
