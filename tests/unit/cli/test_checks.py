"""What is checked before anything starts: the data folder, ports; and the bound of logs."""

import os
import socket
from pathlib import Path

import pytest

from services.cli.checks import check_model, check_ports
from services.cli.lock import locked
from services.cli.logfile import LIMIT_BYTES, TAIL_LINES, LogFile
from services.cli.plan import plan
from services.cli.ports import FreePorts, is_free
from services.cli.problem import Problem
from services.kit.settings import load_settings


@pytest.mark.parametrize(
    ("worker", "word"),
    [
        pytest.param({"engine": "vllm", "model": "folder"}, "", id="vllm: a folder"),
        pytest.param({"engine": "vllm", "vllm": {"model": "org/model"}}, "", id="vllm: a name on the hub"),
        pytest.param({"engine": "vllm"}, "name its folder", id="vllm: nothing"),
        pytest.param({"engine": "vllm", "model": "elsewhere"}, "no such folder", id="vllm: a folder that is not there"),
        pytest.param({"engine": "llamacpp", "model": "folder"}, "no such model file", id="llamacpp: a folder"),
        pytest.param({"engine": "llamacpp", "model": "file"}, "no GGUF file", id="llamacpp: another kind of file"),
        pytest.param({"engine": "sim", "model": "file"}, "reads none", id="sim: any file"),
        pytest.param({"engine": "sim"}, "", id="sim: nothing"),
    ],
)
def test_an_engine_s_model_is_checked_first(tmp_path: Path, worker: dict[str, object], word: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("no model")
    if "model" in worker:
        worker = worker | {"model": tmp_path / str(worker["model"])}
    settings = load_settings(worker=worker)
    if not word:
        check_model(settings)
        return
    with pytest.raises(Problem, match=word):
        check_model(settings)


def test_a_folder_has_one_mesh_at_a_time(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(Problem) as caught, locked(tmp_path):
        pass
    assert f"(pid {os.getpid()})" in caught.value.message
    with locked(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(Problem, match="choose another folder with --data-dir"), locked(tmp_path / "file"):
        pass


def test_every_taken_port_is_named_with_its_program_and_option(tmp_path: Path) -> None:
    with socket.socket() as one, socket.socket() as other, FreePorts().lend() as free:
        for listener in (one, other):
            listener.bind(("127.0.0.1", 0))
            listener.listen()
        first, second = one.getsockname()[1], other.getsockname()[1]
        zero = {"port": 0, "admin_port": 0}
        settings = load_settings(
            envoy={"port": first, "admin_port": 0},
            worker={"port": second, "admin_port": 0},
            router=zero,
            retriever=zero,
        )
        mesh = plan(settings, 1, free.take, ("envoy",))
        # The ports that are only lent are held by this test, so they count as taken as well.
        with pytest.raises(Problem) as caught:
            check_ports(mesh)
    lines = caught.value.message.splitlines()
    (front,) = (line for line in lines if f"port {first} for envoy is taken" in line)
    assert f"(pid {os.getpid()})" in front
    assert "--http-port" in front
    assert any(f"port {second} for worker-0" in line and "--worker-port" in line for line in lines)


def test_lent_ports_differ_and_are_free_afterwards() -> None:
    with FreePorts().lend() as free:
        ports = [free.take() for _ in range(20)]
        assert len(set(ports)) == 20
        assert not is_free("127.0.0.1", ports[0])
    assert is_free("127.0.0.1", ports[0])


def test_a_log_is_kept_within_its_bound_and_writers_go_on(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "a.log")
    with log.open() as writer:
        writer.write(b"x" * LIMIT_BYTES)
        log.bound()
        assert (tmp_path / "a.log").stat().st_size == LIMIT_BYTES
        writer.write(b"y")
        log.bound()
        writer.write(b"z\n")
    assert (tmp_path / "a.log").read_bytes() == b"z\n"
    assert (tmp_path / "a.log.1").stat().st_size == LIMIT_BYTES


def test_the_log_of_an_earlier_mesh_is_kept_once(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("before\n")
    log = LogFile(tmp_path / "a.log")
    assert log.tail() == ""
    assert (tmp_path / "a.log.1").read_text() == "before\n"


def test_a_tail_is_short(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "a.log")
    with log.open() as writer:
        writer.write("\n".join(f"{n} " + "long " * 1000 for n in range(50)).encode())
    lines = log.tail().splitlines()
    assert len(lines) <= TAIL_LINES
    assert max(map(len, lines)) <= 300
    assert lines[-1].startswith("49")
