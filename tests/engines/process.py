"""One worker as a real process with a given interpreter: starts it, knows its port, stops it, and keeps its log."""

import json
import os
import signal
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pytest

from tests.chaos.process import variables
from tests.conftest import ROOT

START_LIMIT_S = 600.0
"""Python, torch and a model are loaded within it on a busy machine too."""
END_LIMIT_S = 30.0
LOG_LINES_SHOWN = 40


@dataclass(frozen=True, slots=True)
class Launch:
    """`python -m services.worker` with that interpreter, these `worker` settings and these variables besides."""

    python: Path
    settings: Mapping[str, Any]
    variables: Mapping[str, str] = field(default_factory=dict)


class EngineWorker:
    """Started by `ensure`, also again after its end; `close` ends it. It dies with the tests' own process."""

    def __init__(self, launch: Launch, folder: Path) -> None:
        self._launch = launch
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._serving = threading.Event()
        self._log: list[str] = []
        self._port = 0
        self._failed = ""

    def __repr__(self) -> str:
        return f"EngineWorker(pid={self._process.pid if self._process else '-'} port={self._port})"

    @property
    def pid(self) -> int:
        """Of the process that was started last."""
        assert self._process is not None
        return self._process.pid

    @property
    def address(self) -> str:
        """host:port of its gRPC server."""
        return f"127.0.0.1:{self._port}"

    @property
    def log(self) -> str:
        """All that it said since it was started last."""
        return "\n".join(self._log)

    def ensure(self) -> None:
        """It serves when this returns; fails with the end of its log where it does not, and then always."""
        if self._failed:
            pytest.fail(self._failed)
        if self._process is not None and self._process.poll() is None:
            return
        self.close()
        self._start()
        self._serving.wait(START_LIMIT_S)
        if not self._port:
            self._failed = "the worker does not serve:\n" + "\n".join(self._log[-LOG_LINES_SHOWN:])
            self.close()
            pytest.fail(self._failed)

    def _start(self) -> None:
        self._log, self._port = [], 0
        self._serving.clear()
        # Variables of ours would be settings; everything else, certificates included, is the machine's.
        ours = {name: value for name, value in os.environ.items() if not name.startswith("WEFT_")}
        settings = {"host": "127.0.0.1", "port": 0, "admin_port": 0, "routers": [], **self._launch.settings}
        path = os.pathsep.join([str(ROOT), str(ROOT / "gen")])
        self._process = subprocess.Popen(
            [str(self._launch.python), "-m", "services.worker"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=self._folder,
            env={
                **ours,
                **self._launch.variables,
                **dict(variables({"worker": settings})),
                "PYTHONPATH": path,
                "WEFT_SUPERVISED": str(os.getpid()),
            },
        )
        assert self._process.stderr is not None
        self._reader = threading.Thread(target=self._read, args=(self._process.stderr,), daemon=True)
        self._reader.start()

    def _read(self, stderr: IO[bytes]) -> None:
        with stderr:
            for line in stderr:
                text = line.decode(errors="replace").rstrip()
                self._log.append(text)
                if not self._port and text.startswith("{") and '"serving"' in text:
                    self._port = int(json.loads(text).get("port", 0))
                    self._serving.set()
        self._serving.set()

    def terminate(self) -> None:
        """Tells it to stop; it drains."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def ended(self) -> int:
        """Waits for its end; the exit code, negative for a signal."""
        assert self._process is not None
        return self._process.wait(END_LIMIT_S)

    def close(self) -> None:
        """Ends it in order, or at once where it does not."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self.terminate()
            try:
                self.ended()
            except subprocess.TimeoutExpired:
                self._process.kill()
                self.ended()
        assert self._reader is not None
        self._reader.join(END_LIMIT_S)
        self._process = None
