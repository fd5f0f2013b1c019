"""Without a GPU the engine's process computes itself, with the threads that it was given."""

import os
from typing import Any

import pytest

from services.kit.settings.engines.vllm import VllmSettings
from services.kit.settings.worker import WorkerSettings
from services.worker.engines.vllm.cpu import IN_ENGINE, prepare_cpu


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "VLLM_CPU_OMP_THREADS_BIND"):
        # Set first, so that what a test leaves is taken back.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def prepared(**vllm: Any) -> dict[str, Any]:
    extra = dict(vllm.get("extra", {}))
    prepare_cpu(WorkerSettings(engine="vllm", vllm=VllmSettings(model="org/model", **vllm)), extra)
    return extra


def test_the_engine_computes_in_its_own_process() -> None:
    assert prepared(cpu_threads=3) == {"distributed_executor_backend": IN_ENGINE}
    assert (os.environ["OMP_NUM_THREADS"], os.environ["VLLM_CPU_OMP_THREADS_BIND"]) == ("3", "nobind")


def test_a_thread_a_core_is_the_default() -> None:
    prepared()
    assert 1 <= int(os.environ["OMP_NUM_THREADS"]) <= len(os.sched_getaffinity(0))


def test_variables_have_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert prepared(cpu_threads=3)
    assert os.environ["OMP_NUM_THREADS"] == "5"


def test_threads_bound_by_the_user_stay_with_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "0-3")
    assert prepared() == {}
    assert "OMP_NUM_THREADS" not in os.environ


@pytest.mark.parametrize(
    "vllm",
    [{"tensor_parallel_size": 2}, {"pipeline_parallel_size": 2}, {"extra": {"distributed_executor_backend": "mp"}}],
)
def test_what_needs_several_processes_stays_with_vllm(vllm: dict[str, Any]) -> None:
    assert prepared(**vllm) == vllm.get("extra", {})
    assert "VLLM_CPU_OMP_THREADS_BIND" not in os.environ
