"""The engines that the suite runs over, as data: how a worker with each is started and what to ask it.

What an engine can do is not here: its hello says that, and the cases hold it to its word.
"""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.engines.missing import environment
from tests.engines.process import Launch
from tests.engines.servers import ADAPTERS, llama_server, triton_server, vllm_server
from tests.engines.vocabulary import SIM_VOCABULARY, TINY_VOCABULARY, Spelling, spell_sim, spell_tiny
from tests.fakes.tiny_gguf import write_tiny_gguf
from tests.fakes.tiny_hf import write_tiny_hf
from tests.fakes.tiny_lora import write_tiny_lora
from tests.vllm.lora import write_lora
from weft.chat.v1 import chat_pb2
from weft.worker.v1 import worker_pb2 as pb

MAX_RUNNING = 8
MAX_WAITING = 12
CONTEXT_TOKENS = 1024
QUESTIONS = 16
PLACES = (
    *("harbour", "museum", "library", "station", "theatre", "market", "observatory", "garden"),
    *("bakery", "foundry", "lighthouse", "archive", "brewery", "chapel", "ferry", "quarry"),
)
_EVERY: dict[str, Any] = {
    "max_running": MAX_RUNNING,
    "max_waiting": MAX_WAITING,
    "context_tokens": CONTEXT_TOKENS,
    "worker_id": "conformance",
}
"""Settings of every worker of the suite: small enough that its bounds are met with a few requests."""


@dataclass(frozen=True, slots=True)
class EngineCase:
    """One engine; its `name`, and after a dash what stands behind it.

    `open` gives what to start while the block lasts, in a folder of its own, or raises Missing.
    `questions` are QUESTIONS prompts with different answers, each of 200 tokens and more where max_tokens lets it.
    `vocabulary` is the number of token ids; 0 where prompts of ids are refused. `spell` is None where ids say nothing.
    """

    name: str
    open: Callable[[Path], AbstractContextManager[Launch]]
    questions: tuple[pb.Prompt, ...]
    vocabulary: int = 0
    spell: Spelling | None = None


def _main(**settings: Any) -> Launch:
    return Launch(Path(sys.executable), {**_EVERY, **settings})


@contextmanager
def _reader(folder: Path) -> Iterator[Launch]:
    yield _main(engine="reader")


@contextmanager
def _sim(folder: Path) -> Iterator[Launch]:
    yield _main(engine="sim", sim={"ttft_ms": 5.0, "itl_ms": 2.0, "prefill_tokens_per_s": 100_000.0})


@contextmanager
def _llamacpp(folder: Path) -> Iterator[Launch]:
    model = write_tiny_gguf(folder / "tiny.gguf")
    adapters = {name: str(write_tiny_lora(folder / f"{name}.gguf", seed)) for seed, name in enumerate(ADAPTERS, 1)}
    # A mapping stands in a variable as JSON.
    yield _main(
        engine="llamacpp", model=model, llamacpp={"exact": True, "threads": 1, "adapters": json.dumps(adapters)}
    )


@contextmanager
def _vllm(folder: Path) -> Iterator[Launch]:
    python = environment(".venv-vllm", "vLLM")
    adapters = [f"{name}={write_lora(folder / name, seed)}" for seed, name in enumerate(ADAPTERS, 1)]
    vllm = {"dtype": "float32", "cpu_kv_cache_gib": 1, "enforce_eager": True, "adapters": adapters}
    yield Launch(python, {**_EVERY, "engine": "vllm", "model": write_tiny_hf(folder / "tiny"), "vllm": vllm})


@contextmanager
def _openai_llamacpp(folder: Path) -> Iterator[Launch]:
    with llama_server(folder) as url:
        yield _main(engine="openai", openai={"base_url": url})


@contextmanager
def _openai_vllm(folder: Path) -> Iterator[Launch]:
    with vllm_server(folder, slots=MAX_RUNNING, context_tokens=CONTEXT_TOKENS, threads=1) as url:
        yield _main(engine="openai", openai={"base_url": url, "exact": True})


@contextmanager
def _triton(folder: Path) -> Iterator[Launch]:
    tokenizer = write_tiny_hf(folder / "tiny")
    with triton_server(folder, context_tokens=CONTEXT_TOKENS) as server:
        triton = {
            "url": server.url,
            "metrics_url": server.metrics_url,
            "tokenizer": tokenizer,
            "structure": "structured_outputs",
            "adapters": list(ADAPTERS),
        }
        yield _main(engine="triton", triton=triton)


def _about(place: str) -> pb.Prompt:
    """For models that go on with any text."""
    return pb.Prompt(text=f"What is kept in the {place}, and who may see it?")


def _catalogue(place: str) -> pb.Prompt:
    """For the reader: a passage, and a question that a long list in it answers."""
    doors = ("east", "west", "north", "south")
    items = "\n".join(
        f"- The {place} keeps ledger {number} on shelf {number * 3} of hall {number % 4}, near the {doors[number % 4]} "
        f"door — bring a card, 東京 café 🚀."
        for number in range(1, 11)
    )
    source = (
        f'<source id="1" title="{place}" section="Guide">\nThese ledgers are kept in the {place}:\n{items}\n</source>'
    )
    messages = [
        chat_pb2.Message(role=chat_pb2.ROLE_SYSTEM, content=f"Cite.\n<sources>\n{source}\n</sources>"),
        chat_pb2.Message(role=chat_pb2.ROLE_USER, content=f"Which ledgers are kept in the {place}?"),
    ]
    return pb.Prompt(conversation=pb.Conversation(messages=messages))


_ABOUT = tuple(_about(place) for place in PLACES)
_CATALOGUES = tuple(_catalogue(place) for place in PLACES)

ENGINES: tuple[EngineCase, ...] = (
    EngineCase("reader", _reader, _CATALOGUES),
    EngineCase("sim", _sim, _ABOUT, SIM_VOCABULARY, spell_sim),
    EngineCase("llamacpp", _llamacpp, _ABOUT, TINY_VOCABULARY, spell_tiny),
    EngineCase("vllm", _vllm, _ABOUT, TINY_VOCABULARY, spell_tiny),
    EngineCase("openai-llamacpp", _openai_llamacpp, _ABOUT, TINY_VOCABULARY),
    EngineCase("openai-vllm", _openai_vllm, _ABOUT, TINY_VOCABULARY, spell_tiny),
    EngineCase("triton", _triton, _ABOUT),
)
