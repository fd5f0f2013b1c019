"""A small process beside the worker: when the worker is gone, it ends the engine processes that are left of it.

vLLM's engine process does not notice that its parent was killed, and would keep the GPU for ever.
"""

import signal
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress

import psutil

END_LIMIT_S = 5.0


class Warden:
    """The worker's end. `watch` tells it of a process; `close` ends it, which is when it looks for the last time."""

    def __init__(self) -> None:
        self._watched: set[int] = set()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "services.worker.engines.vllm.warden"],
            stdin=subprocess.PIPE,
            # A Ctrl-C in the terminal is for the worker; this one has to outlive it.
            start_new_session=True,
        )

    def __repr__(self) -> str:
        return f"Warden(pid={self._process.pid} watched={sorted(self._watched)})"

    def watch(self, pid: int) -> None:
        """From now on that process ends with the worker. Telling it twice changes nothing."""
        if pid in self._watched or self._process.stdin is None:
            return
        self._watched.add(pid)
        with suppress(OSError):
            self._process.stdin.write(f"{pid}\n".encode())
            self._process.stdin.flush()

    def close(self) -> None:
        """Ends what is left of the watched processes; blocks until that is done."""
        with suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        try:
            self._process.wait(END_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def family(pids: Iterable[int]) -> list[psutil.Process]:
    """These processes and all that they started, children first; those that are gone are left out."""
    found: list[psutil.Process] = []
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            found += [*process.children(recursive=True), process]
    return found


def end(processes: Iterable[psutil.Process]) -> None:
    """Kills them. A number that was given to another process since is left alone."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def main() -> int:
    """Reads process ids, one a line, until the worker closes the pipe, which its end does too."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    watched: list[psutil.Process] = []
    for line in sys.stdin:
        with suppress(psutil.NoSuchProcess, ValueError):
            watched.append(psutil.Process(int(line)))
    end(family(process.pid for process in watched if process.is_running()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
