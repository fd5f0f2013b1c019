"""Processes that a killed worker leaves behind are ended; real processes."""

import os
import signal
import subprocess
import sys

import psutil

from services.worker.engines.vllm.warden import Warden, end, family

WAIT_LIMIT_S = 20.0
_WORKER = """
import subprocess, sys, time
from services.worker.engines.vllm.warden import Warden
core = subprocess.Popen([sys.executable, "-c",
    "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
    "print('up', flush=True); time.sleep(600)"], stdout=subprocess.PIPE)
core.stdout.readline()
warden = Warden()
warden.watch(core.pid)
print(core.pid, flush=True)
time.sleep(600)
"""


def test_a_killed_workers_engine_and_its_children_end() -> None:
    worker = subprocess.Popen(
        [sys.executable, "-c", _WORKER], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.getcwd()}
    )
    assert worker.stdout is not None
    with worker.stdout:
        core = psutil.Process(int(worker.stdout.readline()))
        family = [core, *core.children(recursive=True)]
        assert len(family) == 2
        worker.send_signal(signal.SIGKILL)
        worker.wait(WAIT_LIMIT_S)
        gone, alive = psutil.wait_procs(family, WAIT_LIMIT_S)
    assert not alive
    assert len(gone) == 2


def test_closing_it_ends_what_is_left() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    warden = Warden()
    warden.watch(process.pid)
    warden.watch(process.pid)
    warden.close()
    assert process.wait(WAIT_LIMIT_S) == -signal.SIGKILL


def test_processes_that_are_gone_are_no_error() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait(WAIT_LIMIT_S)
    end(family([process.pid]))
