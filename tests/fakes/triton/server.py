"""Starts a real Triton server (the one in nvidia-pytriton) over the model beside this file, and ends it."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from services.kit.leash import die_with_parent
from tests.conftest import ROOT

MODEL = "vllm_model"
CONTEXT_TOKENS = 512
READY_LIMIT_S = 60.0
END_LIMIT_S = 20.0
_MODELS = Path(__file__).parent / "models"


def free_port() -> int:
    """A port that nobody listens on now; Triton cannot choose one and tell it."""
    with held_port() as held:
        return int(held.getsockname()[1])


def held_port() -> socket.socket:
    """A port that no other process is given while the socket is open; Triton can listen on it all the same.

    Without it another test could take the port before Triton starts, or while it is down between two starts.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    return held


def environment() -> Path:
    """The virtual environment that has tritonserver and xllamacpp. Skips where it is missing."""
    folder = Path(os.environ.get("TEST_TRITON_ENV", ROOT / ".venv-triton"))
    if not (folder / "bin" / "python").exists():
        pytest.skip(f"{folder} is not there: `make engines` makes it, or TEST_TRITON_ENV names another")
    return folder


def write_repository(
    folder: Path,
    gguf: Path,
    *,
    name: str = MODEL,
    delay_s: float = 0.0,
    context_tokens: int = CONTEXT_TOKENS,
    adapters: Mapping[str, Path] | None = None,
    without: Sequence[str] = (),
    decoupled: bool = True,
) -> Path:
    """Adds a model to the repository in `folder`; `delay_s` is the time between two tokens.

    `without` leaves away the inputs and outputs whose names begin so; a model that is not `decoupled` cannot stream.
    """
    model = folder / name
    shutil.copytree(_MODELS / MODEL, model, ignore=shutil.ignore_patterns("__pycache__"))
    config = (model / "config.pbtxt").read_text()
    values = {"context_tokens": str(context_tokens), "delay_s": str(delay_s), "gguf": str(gguf)}
    for key, value in values.items():
        config = config.replace(f"@{key}@", value)
    config = config.replace(f'name: "{MODEL}"', f'name: "{name}"')
    lines = [line for line in config.splitlines() if not any(f'name: "{word}' in line for word in without)]
    text = "\n".join(lines).replace(",\n]", "\n]") + "\n"
    (model / "config.pbtxt").write_text(text if decoupled else text.replace("decoupled: True", "decoupled: False"))
    loras = {adapter: str(path) for adapter, path in (adapters or {}).items()}
    (model / "1" / "multi_lora.json").write_text(json.dumps(loras))
    return folder


def write_embeddings(folder: Path, name: str, *, batch: int = 0, data_type: str = "TYPE_FP32") -> Path:
    """Adds an embedding model to the repository in `folder`; Triton batches its texts where `batch` is over 0."""
    model = folder / name
    shutil.copytree(_MODELS / "hashed_words", model, ignore=shutil.ignore_patterns("__pycache__"))
    config = (model / "config.pbtxt").read_text()
    texts, vectors = ("1", "64") if batch else ("-1", "-1, 64")
    values = {"name": name, "batch": str(batch), "type": data_type, "texts": texts, "vectors": vectors}
    for key, value in values.items():
        config = config.replace(f"@{key}@", value)
    (model / "config.pbtxt").write_text(config)
    return folder


@dataclass(slots=True)
class TritonServer:
    """One process with three ports, which it keeps when it is started again. Whoever makes it calls `close`."""

    repository: Path
    log: Path
    process: subprocess.Popen[bytes] | None = None
    _held: list[socket.socket] = field(default_factory=lambda: [held_port() for _ in range(3)])

    @property
    def grpc_port(self) -> int:
        """Where its gRPC server listens."""
        return int(self._held[0].getsockname()[1])

    @property
    def http_port(self) -> int:
        """Where its HTTP server listens."""
        return int(self._held[1].getsockname()[1])

    @property
    def metrics_port(self) -> int:
        """Where its metrics are."""
        return int(self._held[2].getsockname()[1])

    @property
    def url(self) -> str:
        """host:port of its gRPC server."""
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def metrics_url(self) -> str:
        """Its Prometheus metrics."""
        return f"http://127.0.0.1:{self.metrics_port}/metrics"

    def start(self, *more: str) -> None:
        """Returns once the process runs; `wait_ready` waits for its models."""
        folder = environment()
        python = (folder / "bin" / "python").resolve()
        home = next(folder.glob("lib/python3.*/site-packages"))
        server = home / "pytriton" / "tritonserver"
        backends = self.repository.parent / f"{self.repository.name}-backends"
        if not backends.exists():
            # The stub has to stand beside the backend, for the Python that it is to run.
            shutil.copytree(server / "backends", backends)
            version = home.parent.name.removeprefix("python")
            shutil.copy(server / "python_backend_stubs" / version / "triton_python_backend_stub", backends / "python")
        libraries = [str(home / "nvidia_pytriton.libs"), str(python.parent.parent / "lib")]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    str(server / "bin" / "tritonserver"),
                    f"--model-repository={self.repository}",
                    f"--backend-directory={backends}",
                    "--grpc-address=127.0.0.1",
                    "--http-address=127.0.0.1",
                    "--metrics-address=127.0.0.1",
                    f"--grpc-port={self.grpc_port}",
                    f"--http-port={self.http_port}",
                    f"--metrics-port={self.metrics_port}",
                    "--metrics-interval-ms=200",
                    "--exit-on-error=false",
                    *more,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={
                    **os.environ,
                    "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
                    "PYTHONPATH": str(home),
                    "LD_LIBRARY_PATH": ":".join(libraries),
                },
                start_new_session=True,
                # Tests that are killed leave no server behind.
                preexec_fn=die_with_parent,
            )

    def wait_ready(self, model: str = MODEL) -> None:
        """Returns once the model is ready; fails with the end of the log where it never is."""
        until_s = time.monotonic() + READY_LIMIT_S
        url = f"http://127.0.0.1:{self.http_port}/v2/models/{model}/ready"
        while time.monotonic() < until_s and self.process is not None and self.process.poll() is None:
            try:
                with urllib.request.urlopen(url, timeout=1.0):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.05)
        pytest.fail("Triton is not ready:\n" + self.log.read_text(errors="replace")[-4000:])

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """It stands still in the block, its connections open."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self.process.pid, signal.SIGCONT)

    def kill_models(self) -> None:
        """Ends the processes that the models run in; Triton itself stays."""
        assert self.process is not None
        for child in psutil.Process(self.process.pid).children(recursive=True):
            child.kill()

    def kill(self) -> None:
        """Ends it and its models at once, as a machine's loss would."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def close(self) -> None:
        """Ends it in order, or at once where it does not, and lets its ports go."""
        try:
            self._end()
        finally:
            for held in self._held:
                held.close()

    def _end(self) -> None:
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(END_LIMIT_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            # Its models' processes are of its own session, and one that still writes would be left behind.
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None
