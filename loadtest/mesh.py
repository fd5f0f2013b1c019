"""Starts a whole mesh with `weft up` in a folder of its own, and says where everything listens."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

# Two workers with vLLM on two cores take minutes.
READY_LIMIT_S = 300.0
STOP_LIMIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Mesh:
    """A running mesh: addresses as host:port, process ids by name (`router`, `worker-0`, `envoy`, …).

    The address called `lane` is the router's second port.
    """

    target: str
    addresses: dict[str, str]
    pids: dict[str, int]
    ready_s: float

    @property
    def workers(self) -> list[int]:
        """The workers' process ids."""
        return [pid for name, pid in self.pids.items() if name.startswith("worker-")]

    def memory_bytes(self, name: str) -> int:
        """Resident memory of the process and its children."""
        root = psutil.Process(self.pids[name])
        return sum(p.memory_info().rss for p in [root, *root.children(recursive=True)])


@contextmanager
def mesh(*options: str, environment: dict[str, str] | None = None) -> Iterator[Mesh]:
    """`weft up` with these options and variables on free ports; stopped with Ctrl-C at the end.

    Raises RuntimeError with what `weft up` said when it does not become ready.
    """
    weft = str(Path(sys.executable).with_name("weft"))
    with tempfile.TemporaryDirectory(prefix="weft-bench-") as folder:
        data, said = Path(folder) / "data", Path(folder) / "up.log"
        leash = [sys.executable, "-P", "-m", "services.cli.leash", str(os.getpid())]
        command = [*leash, weft, "up", "--free-ports", "--data-dir", str(data), *options]
        started_s = time.monotonic()
        with said.open("wb") as log:
            # A group of its own, since Ctrl-C is for the load, which stops the mesh last; the leash ends it with us.
            process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=os.environ | (environment or {}),
                process_group=0,
            )
        try:
            _wait(process, said, started_s)
            ready_s = time.monotonic() - started_s
            told = json.loads((data / "run" / "mesh.json").read_text())
            found = told["processes"]
            yield Mesh(
                told["target"],
                {name: entry["address"] for name, entry in found.items()} | {"lane": told["lane"]},
                {name: entry["pid"] for name, entry in found.items()} | {"up": told["pid"]},
                ready_s,
            )
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                # Its services end with it.
                process.kill()
                process.wait()


def _wait(process: subprocess.Popen[bytes], said: Path, started_s: float) -> None:
    while "ready  HTTP" not in said.read_text():
        if process.poll() is not None or time.monotonic() - started_s > READY_LIMIT_S:
            raise RuntimeError(f"`weft up` did not become ready:\n{said.read_text()}")
        time.sleep(0.05)
