"""Two vLLM and two llama.cpp workers behind router and Envoy, answering at once, and one of them is killed."""

import asyncio
import json
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.client import Heard
from tests.chaos.front import envoy, send
from tests.chaos.mesh import Mesh, Plan, mesh
from tests.engines.missing import Missing, environment
from tests.fakes.tiny_gguf import write_tiny_gguf
from tests.fakes.tiny_hf import write_tiny_hf

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(420)]

TOKENS = 300
READY_LIMIT_S = 240.0
VLLM, LLAMACPP = "tiny-vllm", "tiny-gguf"


@dataclass(frozen=True)
class Question:
    """One chat: greedy, or with a seed at temperature 1."""

    model: str
    text: str
    seed: int | None = None

    def body(self) -> bytes:
        """As JSON for /v1/chat."""
        sampling: dict[str, Any] = {"max_tokens": TOKENS, "temperature": 0 if self.seed is None else 1}
        if self.seed is not None:
            sampling |= {"seed": str(self.seed), "top_p": 0.95, "top_k": 50}
        return json.dumps({"model": self.model, "messages": [{"content": self.text}], "sampling": sampling}).encode()


QUESTIONS = (
    *(Question(VLLM, f"greedy question {number}") for number in range(3)),
    *(Question(VLLM, f"seeded question {number}", seed=number + 1) for number in range(3)),
    *(Question(LLAMACPP, f"another question {number}") for number in range(2)),
)


def _plans(folder: Path) -> list[Plan]:
    python = str(environment(".venv-vllm", "vLLM"))
    hf, gguf = write_tiny_hf(folder / "tiny"), write_tiny_gguf(folder / "tiny.gguf")
    both = {"max_running": 8, "context_tokens": 1024}
    vllm = {"dtype": "float32", "cpu_kv_cache_gib": 1, "enforce_eager": True}
    first = {**both, "engine": "vllm", "model": hf, "model_name": VLLM, "vllm": vllm}
    second = {**both, "engine": "llamacpp", "model": gguf, "model_name": LLAMACPP}
    second |= {"llamacpp": {"exact": True, "threads": 1}}
    return [
        *(Plan(f"vllm-{number}", first, python=python) for number in range(2)),
        *(Plan(f"llamacpp-{number}", second) for number in range(2)),
    ]


async def _all(port: int, killed: Mesh | None = None) -> list[Heard]:
    """Every question at once; with `killed`, the first vLLM worker dies once all have begun."""
    heard = [Heard(question.text) for question in QUESTIONS]
    tasks = [
        asyncio.create_task(send(port, one, question.body())) for question, one in zip(QUESTIONS, heard, strict=True)
    ]
    try:
        if killed is not None:
            await asyncio.gather(*(one.begun.wait() for one in heard))
            killed.workers["vllm-0"].signal(signal.SIGKILL)
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def _texts(heard: Sequence[Heard]) -> list[tuple[str, list[int]]]:
    return [(one.complete(TOKENS).text, one.ids) for one in heard]


async def test_text_is_identical_when_a_vllm_worker_dies(tmp_path: Path) -> None:
    try:
        plans = _plans(tmp_path)
    except Missing as missing:
        pytest.skip(str(missing))
    async with (
        mesh(tmp_path, *plans, router={"policy": "round_robin"}, ready_limit_s=READY_LIMIT_S) as found,
        envoy(found, tmp_path) as port,
    ):
        expected = _texts(await _all(port))
        heard = await _all(port, killed=found)
        assert _texts(heard) == expected
        moved = [question for question, one in zip(QUESTIONS, heard, strict=True) if one.moved]
        assert any(question.seed is None for question in moved), "no greedy answer was on the worker that died"
        assert any(question.seed is not None for question in moved), "no seeded answer was on the worker that died"
        assert all(question.model == VLLM for question in moved)
        await found.idle()
