"""The weft command against a running mesh, and meshes that start, fail and end."""

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import httpx
import psutil
import pytest

from tests.conftest import ROOT
from tests.e2e.conftest import COMMAND_LIMIT_S, WEFT, Mesh, environment, weft

pytestmark = pytest.mark.e2e

GONE_LIMIT_S = 15


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    (tmp_path / "garden.md").write_text("# Garden\n\nThe roses are watered at noon, and never at night.\n")
    (tmp_path / "house.txt").write_text("The key of the front door lies under the mat.\n")
    return tmp_path


def test_ingest_then_ask(mesh: Mesh, notes: Path) -> None:
    target = ("--target", mesh.target, "--index", "notes")
    first = weft("ingest", str(notes), *target)
    assert first.code == 0, first.err
    assert first.out.startswith("2 documents: 2 indexed; ")
    again = weft("ingest", str(notes), *target)
    assert again.out.startswith("2 documents: 2 unchanged; ")
    answer = weft("ask", "When are the roses watered?", *target)
    assert answer.code == 0, answer.err
    assert "at noon" in answer.out
    assert "[1] " in answer.out
    found = json.loads(weft("ask", "Where is the key?", "--json", *target).out)
    cited = [source["source"] for source in found["sources"] if source["cited"]]
    assert cited[0].endswith("house.txt")


def test_a_file_that_cannot_be_read_is_named_and_the_rest_is_taken(mesh: Mesh, notes: Path) -> None:
    (notes / "broken.pdf").write_bytes(b"%PDF-1.7 and then nothing")
    ran = weft("ingest", str(notes), "--target", mesh.target, "--index", "broken")
    assert ran.code == 1
    assert "broken.pdf: " in ran.err
    assert "2 indexed, 1 failed" in ran.out


def test_an_index_that_is_not_there(mesh: Mesh) -> None:
    ran = weft("ask", "Anything?", "--index", "nowhere", "--target", mesh.target)
    assert ran.code == 1
    assert ran.err.startswith("weft: ")
    assert "nowhere" in ran.err


def test_doctor_finds_everything_well(mesh: Mesh) -> None:
    ran = weft("doctor", "--json", "--target", mesh.target)
    found = {finding["name"]: finding for finding in json.loads(ran.out)}
    assert ran.code == 0, [finding for finding in found.values() if finding["needed"] and not finding["ok"]]
    assert {"router", "workers", "embedder", "retriever"} <= found.keys()
    assert found["embedder"]["found"].startswith("all-minilm-l6-v2, 384 dimensions")


def test_a_second_mesh_on_the_same_folder_says_who_has_it(mesh: Mesh) -> None:
    ran = weft("up", "--free-ports", "--data-dir", str(mesh.data_dir))
    assert ran.code == 1
    assert f"a mesh runs on {mesh.data_dir} already (pid {mesh.process.pid})" in ran.err


def test_a_busy_port_is_named_with_its_program_and_option(mesh: Mesh, tmp_path: Path) -> None:
    port = mesh.target.rpartition(":")[2]
    ran = weft("up", "--free-ports", "--data-dir", str(tmp_path), "--http-port", port)
    assert ran.code == 1
    assert f"port {port} for envoy is taken by envoy (pid {mesh.pid('envoy')})" in ran.err
    assert "--http-port" in ran.err


def test_a_broken_model_file_ends_with_the_workers_log(tmp_path: Path) -> None:
    (tmp_path / "no.gguf").write_text("GGUF and nothing else")
    ran = weft("up", "--free-ports", "--data-dir", str(tmp_path / "data"), "--model", str(tmp_path / "no.gguf"))
    assert ran.code == 1
    assert "could not be started" in ran.err
    assert "no.gguf" in ran.err


def test_a_killed_worker_comes_back_and_is_counted(mesh: Mesh) -> None:
    """The table is watched, so that the test sees what a person with `weft workers --watch` sees."""
    before = mesh.pid("worker-0")
    seen = []
    command = [*WEFT, "workers", "--watch", "--json", "--target", mesh.target]
    with subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True) as watch:
        assert watch.stdout is not None
        for line in watch.stdout:
            (row,) = (row for row in json.loads(line) if row["worker_id"] == "worker-0")
            if not seen:
                os.kill(before, signal.SIGKILL)
            seen.append((row["state"], row["restarts"]))
            if seen[-1] == ("serving", 1):
                break
        watch.send_signal(signal.SIGINT)
    assert watch.returncode == 130
    assert seen[0] == ("serving", 0)
    assert "away" in dict(seen)
    assert mesh.pid("worker-0") != before


def gone(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that are still there after GONE_LIMIT_S."""
    return psutil.wait_procs(processes, timeout=GONE_LIMIT_S)[1]


@pytest.fixture
def warm(mesh: Mesh, tmp_path: Path) -> Path:
    """A data folder with the embedder's model as the shared mesh has built it."""
    shutil.copytree(mesh.data_dir / "models", tmp_path / "models")
    return tmp_path


def test_ctrl_c_lets_answers_finish_and_leaves_no_process(warm: Path) -> None:
    arguments = ("--workers", "1", "--engine", "sim", "--sim-itl-ms", "50")
    with Mesh(warm, *arguments) as mesh:
        processes = mesh.descendants()
        assert len(processes) >= 5
        body = {"messages": [{"content": "Hello"}], "sampling": {"max_tokens": 30}}
        with httpx.stream("POST", f"{mesh.url}/v1/chat", json=body, timeout=30) as response:
            lines = (line for line in response.iter_lines() if line)
            while "tokens" not in next(lines):
                pass
            mesh.process.send_signal(signal.SIGINT)
            last = list(lines)[-1]
        assert "finished" in last
        out, _ = mesh.process.communicate(timeout=COMMAND_LIMIT_S)
        assert mesh.process.returncode == 0
    assert out.rstrip().endswith("stopped")
    assert gone(processes) == []
    assert not (warm / "run" / "mesh.json").exists()


def test_a_killed_parent_leaves_no_process(warm: Path) -> None:
    with Mesh(warm, "--workers", "1") as mesh:
        processes = mesh.descendants()
        mesh.process.kill()
        mesh.process.wait()
    assert gone(processes) == []


def test_the_demo_answers_with_sources_and_ends(tmp_path: Path) -> None:
    ran = weft("demo", "--once", "--free-ports", "--data-dir", str(tmp_path), limit_s=120)
    assert ran.code == 0, ran.out + ran.err
    assert "What happens when a worker dies" in ran.out
    assert "[1] " in ran.out
    assert "worker-1" in ran.out
    assert ran.out.rstrip().endswith("stopped")
