"""`weft load` against a whole mesh: nothing is lost over any way in, and a run that is stopped leaves what it has."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from loadtest.load.client import Target
from loadtest.load.collect import Objectives
from loadtest.load.drive import WARM_REQUESTS, drive
from loadtest.load.scenario import Arrivals, Scenario
from loadtest.load.schedule import Phase
from loadtest.mesh import Mesh, mesh
from tests.conftest import ROOT
from tests.e2e.conftest import WEFT, environment

pytestmark = pytest.mark.e2e
STOP_LIMIT_S = 60
TOKENS = 20


@pytest.fixture(scope="module")
def simulated() -> Iterator[Mesh]:
    """Two workers that simulate an engine."""
    with mesh("--engine", "sim", "--workers", "2", "--sim-ttft-ms", "5", "--sim-itl-ms", "5") as found:
        yield found


@pytest.mark.parametrize("users", [0, 8], ids=["open", "closed"])
@pytest.mark.parametrize("transport", ["grpc", "openai", "http"])
async def test_nothing_is_lost(simulated: Mesh, transport: str, users: int) -> None:
    host, _, port = simulated.target.rpartition(":")
    scenario = Scenario(
        transport=transport,
        model="sim",
        arrivals=Arrivals.CONSTANT,
        phases=(Phase(20.0, 2.0, "1: 20/s"),),
        users=users,
        max_tokens=TOKENS,
        objectives=Objectives(e2e_s=60.0),
    )
    outcome = await drive(scenario, Target(host, int(port), "sim"), watch=simulated.target)
    whole = outcome.collector.whole
    assert (whole.failed, whole.lost, whole.repeated, whole.short, whole.coalesced) == (0, 0, 0, 0, 0), whole.examples
    assert whole.tokens == whole.ok * TOKENS
    assert whole.good == whole.sent
    assert whole.sent == 40 if not users else whole.sent >= users
    assert whole.ttft.max_s < 60.0
    assert outcome.seen.looks


def test_a_run_that_is_stopped_leaves_results_and_no_process(tmp_path: Path) -> None:
    """The mesh that it started goes on until the answers under way have ended, and then is gone."""
    command = [*WEFT, "load", "run", "--start", "--engine sim --workers 1", "--seconds", "600", "--rate", "20"]
    command += ["--out", str(tmp_path), "-H", "Authorization: Bearer secret-word"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), stderr=subprocess.PIPE, text=True, process_group=0
    ) as process:
        try:
            assert process.stderr is not None
            target = process.stderr.readline().split()[-1]
            _busy(target)
            started = psutil.Process(process.pid).children(recursive=True)
            # As Ctrl-C does: to the whole group, in which the mesh is not.
            os.killpg(process.pid, signal.SIGINT)
            _, said = process.communicate(timeout=STOP_LIMIT_S)
        finally:
            process.kill()
    assert process.returncode == 130, said
    (file,) = tmp_path.glob("*/results.json")
    text = file.read_text()
    found = json.loads(text)
    assert found["target"] == target
    assert 0.0 < found["interrupted_s"] < 600.0
    assert (found["whole"]["failed"], found["unanswered"]) == (0, 0), found["whole"]["examples"]
    assert found["whole"]["ok"] > 0
    assert "secret-word" not in text
    assert (file.parent / "report.html").exists()
    assert psutil.wait_procs(started, timeout=STOP_LIMIT_S)[1] == []


def _busy(target: str, more_than: int = WARM_REQUESTS) -> None:
    """Returns once a worker has more answers to do than these; a run warms up with WARM_REQUESTS."""
    command = [*WEFT, "workers", "--watch", "--json", "--target", target]
    with subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True) as watch:
        assert watch.stdout is not None
        for line in watch.stdout:
            if any(row["running"] + row["waiting"] > more_than for row in json.loads(line)):
                break
        watch.send_signal(signal.SIGINT)


def test_a_killed_worker_costs_no_token_and_the_command_leaves_no_process(tmp_path: Path) -> None:
    command = [*WEFT, "load", "chaos", "--workers", "2", "--fault", "1:kill:worker-0", "--rate", "10", "--seconds", "3"]
    command += ["--max-tokens", "40", "--out", str(tmp_path)]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            target = process.stderr.readline().split()[-1]
            _busy(target, more_than=0)
            started = psutil.Process(process.pid).children(recursive=True)
            out, said = process.communicate(timeout=STOP_LIMIT_S)
        finally:
            process.kill()
    assert process.returncode == 0, out + said
    (file,) = tmp_path.glob("*/results.json")
    found = json.loads(file.read_text())
    (effect,) = found["effects"]
    assert (effect["what"], effect["worker"]) == ("kill", "worker-0")
    assert (found["whole"]["failed"], found["whole"]["lost_tokens"], found["whole"]["repeated_tokens"]) == (0, 0, 0)
    assert len(started) > 4
    assert psutil.wait_procs(started, timeout=STOP_LIMIT_S)[1] == []
