"""The engine over a stand-in for vLLM's process: what becomes of steps, cancels, refusals and a death."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from services.kit.errors import InvalidArgument, Unavailable
from services.worker.engines.vllm.engine import VllmEngine
from services.worker.engines.vllm.prompts import Reader
from services.worker.ports import About, Form, Reason, Sampling, Structure, Tokenised, Work
from tests.unit.worker.collector import Collector
from tests.unit.worker.vllm.core import END_MARK, FakeCore
from tests.unit.worker.vllm.test_prompts import HubTokenizer

PROMPT = Tokenised((5, 6, 7))
STOP, LENGTH, ERROR = 0, 1, 3


@dataclass
class Bench:
    """The engine under test; `cores` are those that were launched, `launching` holds the next launch up."""

    sink: Collector = field(default_factory=Collector)
    cores: list[FakeCore] = field(default_factory=lambda: [FakeCore()])
    launching: asyncio.Event = field(default_factory=asyncio.Event)
    failures: int = 0
    engine: VllmEngine = cast(VllmEngine, None)  # noqa: RUF009 - set by the fixture before anyone sees it

    @property
    def core(self) -> FakeCore:
        return self.cores[-1]

    async def launch(self) -> Any:
        await self.launching.wait()
        if self.failures:
            self.failures -= 1
            raise RuntimeError("the GPU's memory is not free yet")
        self.cores.append(FakeCore())
        return self.core

    async def ask(self, key: int, resume: tuple[int, ...] = (), **sampling: Any) -> None:
        """Submits and waits until vLLM has it."""
        self.sink.resumed[key] = len(resume)
        self.engine.submit(Work(key, PROMPT, Sampling(**sampling), resume))
        await self.core.wait_for(str(key))


@pytest.fixture
async def bench(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr("services.worker.engines.vllm.engine.RESTART_FIRST_S", 0.01)
    backend = Tokenizer(models.BPE(vocab={letter: at for at, letter in enumerate("!abcdefghi")}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    reader = Reader(HubTokenizer(backend), 10, None, 100, prefixes=False)
    found = Bench()
    about = About("vllm", "tiny", 4, 100, reader.fingerprint)
    found.engine = VllmEngine(about, cast(Any, found.core), found.launch, reader, {}, found.sink)
    running = asyncio.create_task(found.engine.run())
    yield found
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await found.engine.close()
    reader.close()
    assert found.core.closed


async def test_one_step_carries_all_that_vllm_brought(bench: Bench) -> None:
    await bench.ask(1)
    await bench.ask(2)
    assert (bench.engine.load().waiting, bench.engine.load().queued_tokens) == (2, 6)
    bench.core.step(("1", [1]), ("2", [2, 3]))
    await bench.sink.tokens(2)
    assert [tuple(tokens)[:4] for tokens in bench.sink.steps[-1].tokens] == [(1, 0, [1], "a"), (2, 0, [2, 3], "bc")]
    load = bench.engine.load()
    assert (load.running, load.waiting, load.queued_tokens, load.kv_usage, load.step_count) == (2, 0, 0, 0.5, 1)
    bench.core.step(("1", [END_MARK]), ("2", [4]), ends={"1": STOP, "2": LENGTH})
    one, two = await bench.sink.ended(1, 2)
    assert (one.text, one.finish.reason, one.finish.completion_tokens) == ("a", Reason.STOP, 1)
    assert (two.text, two.finish.reason, two.finish.cached_tokens) == ("bcd", Reason.LENGTH, 2)
    assert (bench.engine.load().running, bench.engine.load().kv_usage) == (0, 0.0)


async def test_a_stop_string_frees_vllm(bench: Bench) -> None:
    await bench.ask(1, stop=("bc",))
    bench.core.step(("1", [1]))
    bench.core.step(("1", [2]))
    bench.core.step(("1", [3]))
    (got,) = await bench.sink.ended(1)
    assert (got.text, got.finish.reason, got.finish.completion_tokens) == ("a", Reason.STOP, 3)
    await asyncio.sleep(0)
    assert bench.core.aborted == ["1"]


async def test_a_resumed_answer_goes_on_after_what_the_client_has(bench: Bench) -> None:
    await bench.ask(1, (1, 2), max_tokens=5, seed=4, temperature=1.0)
    request = bench.core.requests["1"]
    assert (request.ids, request.values["max_tokens"]) == ([5, 6, 7, 1, 2], 3)
    bench.core.step(("1", [3]), ends={"1": LENGTH})
    (got,) = await bench.sink.ended(1)
    assert (got.ids, got.text, got.started, got.finish.completion_tokens) == ([3], "c", 3, 3)


async def test_a_cancelled_request_ends_at_once_and_what_comes_late_is_dropped(bench: Bench) -> None:
    await bench.ask(1)
    bench.engine.cancel(1)
    assert bench.sink.of[1].finish.reason is Reason.CANCELLED
    assert bench.engine.load().queued_tokens == 0
    bench.core.step(("1", [1]))
    await bench.ask(2)
    bench.core.step(("2", [2]))
    await bench.sink.tokens(2)
    assert bench.core.aborted == ["1"]
    assert not bench.sink.of[1].ids


async def test_a_request_that_is_cancelled_before_vllm_has_it_never_gets_there(bench: Bench) -> None:
    bench.engine.submit(Work(1, PROMPT, Sampling()))
    bench.engine.cancel(1)
    assert bench.sink.of[1].finish.reason is Reason.CANCELLED
    await bench.ask(2)
    assert list(bench.core.requests) == ["2"]


async def test_what_vllm_refuses_is_the_callers_fault(bench: Bench) -> None:
    bench.core.refuses = ValueError("Failed to parse grammar")
    bench.engine.submit(Work(1, PROMPT, Sampling(structure=Structure(Form.GRAMMAR, "root ::= ("))))
    (got,) = await bench.sink.ended(1)
    assert isinstance(got.error, InvalidArgument)
    assert got.error.field == "sampling.structure"
    assert "Failed to parse grammar" in got.error.message


async def test_refusals_before_anything_is_done(bench: Bench) -> None:
    await bench.ask(1)
    for work, reason in (
        (Work(1, PROMPT, Sampling()), "DUPLICATE"),
        (Work(2, PROMPT, Sampling(), (99,)), "UNKNOWN_TOKEN"),
        (Work(3, PROMPT, Sampling(structure=Structure(Form.REGEX, "a")), (1,)), "CANNOT_RESUME"),
    ):
        with pytest.raises(InvalidArgument) as caught:
            bench.engine.submit(work)
        assert caught.value.reason == reason


async def test_an_engine_that_dies_fails_all_and_comes_back(bench: Bench) -> None:
    first = bench.core
    await bench.ask(1)
    await bench.ask(2)
    bench.failures = 2
    first.die()
    for got in await bench.sink.ended(1, 2):
        assert isinstance(got.error, Unavailable)
        assert got.error.reason == "ENGINE_BROKEN"
    assert bench.sink.steps[-1].load.broken
    with pytest.raises(Unavailable):
        bench.engine.submit(Work(3, PROMPT, Sampling()))
    bench.launching.set()
    while bench.engine.load().broken:
        await asyncio.sleep(0.01)
    assert first.closed
    assert not bench.sink.steps[-1].load.broken
    assert len(bench.cores) == 2
    await bench.ask(4)
    bench.core.step(("4", [1]), ends={"4": LENGTH})
    assert (await bench.sink.ended(4))[0].text == "a"
