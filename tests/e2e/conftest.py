"""One mesh for all end-to-end tests: `weft up` with the reader engine, on free ports."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil
import pytest

from tests.conftest import ROOT

READY_LIMIT_S = 90
STOP_LIMIT_S = 40
COMMAND_LIMIT_S = 60
WEFT = (sys.executable, "-m", "services.cli")


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str


def environment() -> dict[str, str]:
    """Ours without any settings of Weft."""
    return {name: value for name, value in os.environ.items() if not name.startswith("WEFT_")}


def weft(*arguments: str, folder: Path = ROOT, limit_s: float = COMMAND_LIMIT_S) -> Ran:
    """Runs a command to its end."""
    ran = subprocess.run(
        [*WEFT, *arguments],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert "Traceback" not in ran.stderr
    return Ran(ran.returncode, ran.stdout, ran.stderr)


class Mesh:
    """A running `weft up`."""

    def __init__(self, data_dir: Path, *arguments: str) -> None:
        self.data_dir = data_dir
        command = [*WEFT, "up", "--free-ports", "--data-dir", str(data_dir), *arguments]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def __enter__(self) -> Self:
        assert self.process.stdout is not None
        lines: list[str] = []
        for line in self.process.stdout:
            lines.append(line)
            if line.startswith("ready"):
                return self
        self.__exit__()
        raise AssertionError("".join(lines))

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()

    @property
    def state(self) -> dict[str, Any]:
        """The content of mesh.json."""
        found: dict[str, Any] = json.loads((self.data_dir / "run" / "mesh.json").read_text())
        return found

    @property
    def target(self) -> str:
        """host:port of Envoy."""
        return str(self.state["target"])

    @property
    def url(self) -> str:
        """Envoy's base URL."""
        return f"http://{self.target}"

    def pid(self, name: str) -> int:
        """The number of one process."""
        return int(self.state["processes"][name]["pid"])

    def descendants(self) -> list[psutil.Process]:
        """Every process that the mesh consists of, `weft up` itself left out."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def stop(self, number: signal.Signals = signal.SIGINT) -> str:
        """Sends the signal, waits for the end, and returns what was printed meanwhile."""
        self.process.send_signal(number)
        out, _ = self.process.communicate(timeout=STOP_LIMIT_S)
        return out


@pytest.fixture(scope="session")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """The mesh that most tests share."""
    with Mesh(tmp_path_factory.mktemp("mesh") / "data") as running:
        yield running
        running.stop()
